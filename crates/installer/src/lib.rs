//! Runtime handlers on nodes of stock clusters: what is to be done, as functions of what there is.
//!
//! | module | decides |
//! |---|---|
//! | [`wanted`] | the list of handlers in the ConfigMap: parsed whole, or refused |
//! | [`layout`] | which file of the node names the handlers: a drop-in, a template, or a block in somebody's file |
//! | [`entry`] | how containerd and CRI-O are told of a handler |
//! | [`block`] | our lines in a file that is another's, put in and taken out byte for byte |
//! | [`candidate`] | what containerd is given to read before it is restarted, and whether only our handlers differ then |
//! | [`usage`] | which handlers the pods of a node use |
//! | [`plan`] | which handlers a node has from now on: never one less than its pods use |
//! | [`report`] | what a node says of its handlers: labels and one annotation |
//! | [`classes`] | the RuntimeClasses that go with them |
//! | [`verify`] | the pod that proves a handler, and what its end says |
//! | [`turns`] | how many nodes start their runtime again at the same time |
//! | [`failure`] | when a change that failed is tried again |
//! | [`stale`] | labels of nodes on which the program does not run any more |
//! | [`removal`] | when a cluster is rid of it all |
//!
//! The driver, with files, processes and the API, is in `crates/berth/src/installer`.

pub mod block;
pub mod candidate;
pub mod classes;
pub mod entry;
pub mod failure;
pub mod layout;
pub mod plan;
pub mod removal;
pub mod report;
pub mod stale;
pub mod turns;
pub mod usage;
pub mod verify;
pub mod wanted;
