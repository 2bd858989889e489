//! What the command line says before any container is touched.
