//! Names, addresses and paths that can't be had: refused with a sentence, and nothing is made.

use berth_cri_api::v1::*;
use tonic::Code;

use crate::client::{pod, shell};
use crate::server::Server;

#[tokio::test(flavor = "multi_thread")]
async fn pods_are_refused_for_names_and_addresses() {
    let mut server = Server::start().await;
    let mut config = pod(&server, "long");
    config.hostname = "h".repeat(65);
    let error = server.try_run(&config, "runc").await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument, "{error}");
    let told = "has 65 bytes, and Linux takes at most 64";
    assert!(error.message().contains(told), "{error}");
    let mut config = pod(&server, "address");
    config.port_mappings.push(PortMapping {
        container_port: 80,
        host_port: 8080,
        host_ip: "localhost".to_owned(),
        ..PortMapping::default()
    });
    let error = server.try_run(&config, "runc").await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument, "{error}");
    assert!(error.message().contains("is no IP address"), "{error}");
    // As long as it can be.
    let mut config = pod(&server, "longest");
    config.hostname = "h".repeat(64);
    server.run(&config, "runc").await;
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn containers_are_refused_for_paths_and_permissions() {
    let mut server = Server::start().await;
    let config = pod(&server, "paths");
    let id = server.run(&config, "runc").await;
    let mut relative = shell("relative", "true");
    relative.mounts.push(Mount {
        container_path: "/data".to_owned(),
        host_path: "data".to_owned(),
        ..Mount::default()
    });
    let mut device = shell("device", "true");
    device.devices.push(Device {
        container_path: "/dev/a".to_owned(),
        host_path: "/dev/null".to_owned(),
        permissions: "rwx".to_owned(),
    });
    for (container, told) in [
        (relative, "host_path \"data\" must be an absolute path"),
        (device, "permissions \"rwx\" must be"),
    ] {
        let error = server.try_create(&id, &config, container).await;
        let error = error.unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument, "{error}");
        assert!(error.message().contains(told), "{error}");
    }
    server.finish().await;
}
