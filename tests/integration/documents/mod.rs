//! The documents: every command in them runs against the real program, every link leads somewhere,
//! and the site has every page.

mod commands;
mod links;
mod pages;
mod session;
