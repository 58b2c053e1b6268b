//! The scheduler: queue, snapshot of nodes, bind.
