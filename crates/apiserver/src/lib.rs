//! The API server: HTTP, discovery, OpenAPI, representations, patches, watch, who-may.
