//! The database schema of Mortise.
