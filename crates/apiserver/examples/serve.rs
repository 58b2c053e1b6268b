//! An API server alone with one admin token, for clients and suites to try.
//!
//! usage: serve DIR PORT TOKEN [tls]
//!
//! With `tls` it makes itself a certificate that nobody knows (`--insecure-skip-tls-verify`).

use std::net::{Ipv4Addr, SocketAddr};

use berth_apiserver::authn::StaticToken;
use berth_apiserver::tls::TlsConfig;
use berth_apiserver::user::User;
use berth_apiserver::{Config, StoreConfig};
use tokio_util::sync::CancellationToken;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [dir, port, token, options @ ..] = args.as_slice() else {
        return Err("usage: serve DIR PORT TOKEN [tls]".into());
    };
    let bind = SocketAddr::from((Ipv4Addr::LOCALHOST, port.parse()?));
    let mut config = Config::new(bind, StoreConfig::Sqlite { dir: dir.into() });
    config.authn.static_tokens.push(StaticToken {
        token: token.clone(),
        user: User::master("admin"),
    });
    let mut scheme = "http";
    if options.iter().any(|o| o == "tls") {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()])?;
        config.tls = Some(TlsConfig {
            certificate: made.cert.pem().into_bytes(),
            key: made.signing_key.serialize_pem().into_bytes(),
            client_ca: None,
        });
        scheme = "https";
    }
    let server = config.build().await?;
    println!("{scheme}://{}", server.local_addr());
    let shutdown = CancellationToken::new();
    let ending = shutdown.clone();
    tokio::spawn(async move {
        let _ = tokio::signal::ctrl_c().await;
        ending.cancel();
    });
    server.serve(shutdown).await;
    Ok(())
}
