//! The structures that collections are made of, without any knowledge of commands, keys or clients.
//!
//! Small collections lie packed in their entry, as bytes; large ones are an [`crate::object::Object`].

pub mod field_table;
pub mod hll;
pub mod intset;
pub mod listpack;
pub mod packed_table;
pub mod quicklist;
pub mod ranked_tree;
pub mod sorted_set;
pub mod stream;
pub mod timed_listpack;
