//! The check of step 01.
fn main() {}
