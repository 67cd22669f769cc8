//! What a record keeps, and what it refuses.
