//! What an API server gets done, with a load of 8 connections that have 16 requests each.
//!
//! `scripts/bench-api` starts the servers and calls this with a part and one argument for each server:
//! `NAME=URL,CA-FILE,TOKEN-FILE`. With two servers the rounds alternate, so that both see the same machine, and the ratio is
//! printed. `BENCH_SCALE=N` sends an N-th of the requests. Parts: `rates`, `creates`, `creates=GOAL`, `schedule`, `watchers`,
//! `leases`, `fill=FIRST..END`, `pages`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::cast_precision_loss,
    missing_docs
)]

mod leases;
mod many;
mod objects;
mod print;
mod rates;
mod schedule;
mod server;
mod watchers;

use std::sync::Arc;

use server::Server;

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let servers: Vec<Arc<Server>> = arguments
        .iter()
        .filter(|argument| argument.contains("=https://"))
        .map(|argument| Arc::new(Server::parse(argument)))
        .collect();
    if servers.is_empty() {
        println!("load: needs a server; scripts/bench-api starts one");
        return;
    }
    let scale =
        std::env::var("BENCH_SCALE").map_or(1, |n| n.parse().expect("BENCH_SCALE: a number"));
    match arguments[0].split_once('=') {
        None if arguments[0] == "rates" => rates::run(&servers, scale).await,
        None if arguments[0] == "creates" => rates::creates(&servers, scale, None).await,
        None if arguments[0] == "schedule" => schedule::run(&servers, scale).await,
        None if arguments[0] == "watchers" => watchers::run(&servers, scale).await,
        None if arguments[0] == "leases" => leases::run(&servers, scale).await,
        None if arguments[0] == "pages" => many::pages(&servers).await,
        Some(("creates", goal)) => {
            let goal = goal.parse().expect("GOAL: a number");
            rates::creates(&servers, scale, Some(goal)).await;
        }
        Some(("fill", numbers)) => many::fill(&servers, numbers).await,
        _ => panic!("no such part: {}", arguments[0]),
    }
}
