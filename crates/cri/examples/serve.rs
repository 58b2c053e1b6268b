//! Serves the CRI from a directory: `serve DIR SHIM [HOSTS_DIR] [CONFIG.toml]`, after importing the archive in
//! the variable IMPORT. For trying things out with crictl.

use std::path::{Path, PathBuf};

use tokio_util::sync::CancellationToken;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    tracing_subscriber::fmt()
        .with_env_filter("info,berth_cri=debug")
        .with_writer(std::io::stderr)
        .init();
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [dir, shim, rest @ ..] = args.as_slice() else {
        return Err("usage: serve DIR SHIM [HOSTS_DIR] [CONFIG.toml]".into());
    };
    let dir = Path::new(dir);
    let mut config = berth_cri::Config::new(&dir.join("data"), &dir.join("run"), vec![shim.into()]);
    // A network of its own, beside whatever else runs on the machine.
    config.cni.default_network = Some(berth_cri::DefaultNetwork {
        name: "berth-example".to_owned(),
        bridge: "berthex0".to_owned(),
        subnet: "10.89.0.0/16".to_owned(),
    });
    if let Some(hosts) = rest.first() {
        config.images.hosts_dirs.push(PathBuf::from(hosts));
    }
    if let Some(file) = rest.get(1) {
        config.handlers = berth_cri::HandlerSource::Berth(PathBuf::from(file));
    }
    if let Some(archive) = std::env::var_os("IMPORT") {
        let store = berth_image::ImageStore::open(
            dir.join("data/cri/images"),
            berth_image::StoreOptions::default(),
        )?;
        store
            .import(Path::new(&archive), None, std::sync::Arc::new(|_| ()))
            .await?;
    }
    let shutdown = CancellationToken::new();
    let stop = shutdown.clone();
    tokio::spawn(async move {
        let _ = tokio::signal::ctrl_c().await;
        stop.cancel();
    });
    berth_cri::run(config, shutdown).await?;
    Ok(())
}
