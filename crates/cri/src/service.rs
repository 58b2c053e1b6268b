//! The two gRPC services: every RPC of CRI v1, each answered by the module that owns it.

mod image;
mod runtime;

use arc_swap::ArcSwap;

use crate::handlers::HandlerTable;

pub(crate) struct Services {
    #[allow(dead_code)]
    handlers: ArcSwap<HandlerTable>,
}

impl Services {
    pub(crate) fn new(handlers: HandlerTable) -> Self {
        Self {
            handlers: ArcSwap::from_pointee(handlers),
        }
    }
}

pub(crate) fn unimplemented(rpc: &str) -> tonic::Status {
    tonic::Status::unimplemented(format!("berth does not implement {rpc} yet"))
}
