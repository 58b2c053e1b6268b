//! Requests that the API server is asked to send for somebody else.
