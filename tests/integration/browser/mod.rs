//! The pages in a real browser: Debian's chromium, driven over the W3C WebDriver protocol.

mod driver;
mod errands;
mod frames;
mod roles;
mod visits;
