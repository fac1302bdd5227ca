//! What is permitted, as data, and the pure functions that decide.
//!
//! A [`Policy`] is the resolved answer for one thread: every path in it is absolute and was
//! seen on this machine by `stockade-config`; `stockade-sandbox` turns it into walls. Nothing
//! here reads a file, a clock or the environment, so that every decision can be tested as a
//! function and explained afterwards.
//!
//! Invariants:
//! - no I/O, no clock, no `unsafe`;
//! - an [`AbsPath`] is absolute and has no `.` or `..` component;
//! - the mechanism (`stockade-sandbox`) depends on this crate, never the other way round.

mod address;
pub mod caches;
mod credential;
mod denial;
mod endpoint;
pub mod environment;
mod explain;
pub mod git_config;
pub mod git_index;
mod grant;
pub mod guard;
mod host;
mod limits;
mod login;
mod mode;
pub mod names;
mod network;
mod path;
mod policy;
mod presets;
mod quantity;
pub mod reading;
mod request;
mod review;
pub mod secrets;
mod terminal;

pub use address::{AddressClass, AddressRange, SYNTHETIC, address_class};
pub use credential::{Credential, KeySource, is_carrier};
pub use denial::{Denial, Operation};
pub use endpoint::{EndpointError, check_endpoint, is_encrypted_endpoint, is_loopback_endpoint};
pub use explain::{Decider, Disk, Explanation, Found, Thing, Wish, explain, explain_connect};
pub use grant::Grant;
pub use host::{Host, HostEntry, HostError, HostName, HostPattern, Ports, parse_port};
pub use limits::Limits;
pub use login::{LoginRule, Logins, SSH_PORT};
pub use mode::{ApprovalPolicy, Mode, UnknownWord};
pub use network::{
    Decision, HostRule, Network, NetworkReason, PROXY_PORT, Published, UpstreamText,
};
pub use path::{AbsPath, PathError};
pub use policy::Policy;
pub use presets::{preset, preset_names};
pub use quantity::{QuantityError, parse_size, parse_time};
pub use request::{PathPattern, Request, RequestRefusal, RequestRule, RuleOwner};
pub use review::{Approved, Pending, Reason, Review, Verdict, review};
pub use terminal::acts_on_terminals;
