//! `berth`: the command line. Each role is a subcommand.

fn main() {}
