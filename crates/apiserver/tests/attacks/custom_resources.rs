//! CustomResourceDefinitions that would take over what a built-in kind owns.
