//! Mortise manages the whole life of a help desk's extensions.
//!
//! The rooms, from the ground up; imports run downwards only:
//!
//! | room | what is in it |
//! | --- | --- |
//! | [`identifier`] | newtypes for every id |
//! | [`seam`] | clock, randomness, crash points: what a test must be able to drive |
//! | [`store`] | the database: entities, pools, the few hot statements in both dialects |
//! | [`config`] | file, environment and flags become one checked type |
//! | [`crypto`] | the key ring, sealing, securityContext, signatures, JWT |
//! | [`audit`] | who did what, in a chain per org |
//! | [`egress`] | the only door out: vetting, deadlines, caps |
//! | [`dialect`] | one file a wire format |
//! | [`webhook`] | who gets which event where; provisioning; the routing index of every node |
//! | [`delivery`] | queue, dispatcher, attempts, retry policy, breaker |
//! | [`api`] | the HTTP API: who may call what, problems, paging, kept answers |
//! | [`server`] | wiring: store, services, listener, drain |
//! | [`cli`] | one file a command; no logic of its own |
//! | [`development`] | an authorisation server and a vendor for the demo and the tests |

pub mod api;
pub mod audit;
pub mod cli;
pub mod config;
pub mod crypto;
pub mod delivery;
pub mod development;
pub mod dialect;
pub mod egress;
pub mod identifier;
pub mod seam;
pub mod server;
pub mod store;
pub mod webhook;
