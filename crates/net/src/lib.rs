//! The node's network side: what nftables does for pods.
//!
//! | module | what it holds |
//! |---|---|
//! | [`nft`] | a table of our own: what stands in it, and one atomic transaction a change |
//! | `ruleset` | what a table is to hold, and from what it held to that |
//! | [`services`] | Services: rules of all Services and endpoints, kept in the kernel |
//! | [`policy`] | NetworkPolicies: rules of what pods may send and receive, in force before a pod starts |
//! | `netlink` | questions to the kernel, and its answers |
//! | `changes` | a wake-up when anybody changes nftables, for what somebody else has emptied |
//!
//! Each use has a table of its own, named after the use and the pods' network (`berth-services-berth0`), so that one
//! never waits for another, and several networks of one machine stay apart. Nobody else's tables are touched.

mod changes;
mod netlink;
pub mod nft;
pub mod policy;
mod ruleset;
pub mod services;
