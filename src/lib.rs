//! Mortise manages the whole life of a help desk's extensions.
//!
//! The rooms, from the ground up; imports run downwards only:
//!
//! | room | what is in it |
//! | --- | --- |
//! | [`identifier`] | newtypes for every id |
//! | [`manifest`] | pure: packages are read, checked, typed and digested |
//! | [`seam`] | clock, randomness, crash points: what a test must be able to drive |
//! | [`telemetry`] | what is counted and measured, and whether loops still run |
//! | [`store`] | the database: entities, pools, the few hot statements in both dialects |
//! | [`config`] | file, environment and flags become one checked type |
//! | [`crypto`] | the key ring, sealing, securityContext, signatures, JWT |
//! | [`audit`] | who did what, in a chain per org |
//! | [`egress`] | the only door out: vetting, deadlines, caps |
//! | [`dialect`] | one file a wire format |
//! | [`webhook`] | who gets which event where; provisioning; the routing index of every node |
//! | [`oauth`] | authorisation servers, the code flow, the token vault, revocation |
//! | [`notice`] | what people must know: counted, dismissed, sent as signed events |
//! | [`delivery`] | queue, dispatcher, attempts, retry policy, breaker |
//! | [`event`] | the catalogue of event types, intake, why an event went where it went |
//! | [`catalogue`] | extensions, versions, signing secrets |
//! | [`inspector`] | addresses of our own that take any request and show it |
//! | [`listening`] | deliveries followed as they are made, by whoever may see them |
//! | [`starter`] | a new extension with its receiver, as `mortise new` makes it |
//! | [`rate`] | how often somebody may do something |
//! | [`extension_data`] | what extensions keep here: store, properties, users' tokens, the incoming lane |
//! | [`lifecycle`] | the state table and its steps: install, authorise, configure, upgrade, suspend, uninstall; rollouts |
//! | [`invoke`] | the vendor's way back in |
//! | [`rotation`] | data keys that take each other's place, and what is sealed anew with them |
//! | [`doctor`] | whether everything stands as it should, and the way back after a restored backup |
//! | [`api`] | the HTTP API: who may call what, problems, paging, kept answers |
//! | [`web`] | the pages: templates over the API's answers, sessions, live updates |
//! | [`server`] | wiring: store, services, listener, drain |
//! | [`development`] | an authorisation server and a vendor for the demo and the tests |
//! | [`demo`] | the whole story of an extension on one machine, told and checked step by step |
//! | [`cli`] | one file a command; no logic of its own |

pub mod api;
pub mod audit;
pub mod catalogue;
pub mod cli;
pub mod config;
pub mod crypto;
pub mod delivery;
pub mod demo;
pub mod development;
pub mod dialect;
pub mod doctor;
pub mod egress;
pub mod event;
pub mod extension_data;
pub mod identifier;
pub mod inspector;
pub mod invoke;
pub mod lifecycle;
pub mod listening;
pub mod manifest;
pub mod notice;
pub mod oauth;
pub mod rate;
pub mod rotation;
pub mod seam;
pub mod server;
pub mod starter;
pub mod store;
pub mod telemetry;
pub mod web;
pub mod webhook;
