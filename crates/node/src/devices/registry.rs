//! `kubelet.sock` in the directory of device plugins: where they register.

use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use berth_core::resource_list::is_extended;
use berth_kubelet_api::device_plugin::registration_server::{Registration, RegistrationServer};
use berth_kubelet_api::device_plugin::{Empty, RegisterRequest};
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;
use tonic::{Request, Response, Status};
use tracing::{info, warn};

use super::plugin::{Registered, follow};
use super::record;
use crate::agent::Agent;
use crate::sockets::{self, SocketError};

/// The socket's name, which plugins know.
const SOCKET: &str = "kubelet.sock";
/// The version that plugins have to speak.
const VERSION: &str = "v1beta1";
/// A registration is short.
const MAX_REQUEST: usize = 64 << 10;
/// A plugin that connects and says nothing.
const PATIENCE: Duration = Duration::from_secs(10);
/// A name of a socket is no longer than this with its directory (`sun_path`).
const MAX_PATH: usize = 107;

/// Serves it until `shutdown`.
pub(crate) async fn keep(agent: Arc<Agent>, shutdown: CancellationToken) {
    let dir = agent.config.plugin_dir.join("device-plugins");
    let listener = match open(&dir) {
        Ok(listener) => listener,
        Err(error) => {
            warn!(dir = %dir.display(), %error, "device plugins cannot register here: {SOCKET} is not served");
            shutdown.cancelled().await;
            return;
        }
    };
    let service = RegistrationServer::new(Service {
        agent: Arc::clone(&agent),
    })
    .max_decoding_message_size(MAX_REQUEST);
    let served = Server::builder()
        .timeout(PATIENCE)
        .concurrency_limit_per_connection(4)
        .add_service(service)
        .serve_with_incoming_shutdown(
            sockets::connections(listener),
            shutdown.clone().cancelled_owned(),
        )
        .await;
    if let Err(error) = served {
        warn!(%error, "{SOCKET} is no longer served");
    }
    // A restart makes it anew; meanwhile no plugin waits on it.
    let _ = fs::remove_file(dir.join(SOCKET));
}

fn open(dir: &Path) -> Result<tokio::net::UnixListener, SocketError> {
    sockets::directory(dir)?;
    let listener = sockets::bind(&dir.join(SOCKET))?;
    // Plugins notice that their own socket is gone, as after a restart of the stock kubelet, and register again.
    for entry in fs::read_dir(dir)?.flatten() {
        let is_socket = entry.file_type().is_ok_and(|kind| kind.is_socket());
        if is_socket && entry.file_name() != SOCKET {
            let _ = fs::remove_file(entry.path());
        }
    }
    Ok(listener)
}

struct Service {
    agent: Arc<Agent>,
}

#[tonic::async_trait]
impl Registration for Service {
    async fn register(&self, request: Request<RegisterRequest>) -> Result<Response<Empty>, Status> {
        let request = request.into_inner();
        let dir = self.agent.config.plugin_dir.join("device-plugins");
        check(&request, &dir).inspect_err(|status| {
            warn!(resource = %request.resource_name, error = status.message(), "a device plugin is not registered");
        })?;
        let resource = request.resource_name;
        let devices = &self.agent.devices;
        let (generation, replaced) = devices
            .state
            .lock()
            .register(&resource)
            .map_err(|error| Status::resource_exhausted(error.to_string()))?;
        let names = devices.state.lock().names();
        record::write_names(&devices.names, &names)
            .map_err(|error| Status::internal(format!("cannot note the resource: {error}")))?;
        info!(
            resource,
            endpoint = request.endpoint,
            "device plugin registered"
        );
        let plugin = Registered {
            resource,
            socket: dir.join(request.endpoint),
            options: request.options.unwrap_or_default(),
            generation,
            replaced,
        };
        let following = follow(Arc::clone(&self.agent), plugin);
        self.agent.tasks.spawn("device plugin", following);
        Ok(Response::new(Empty {}))
    }
}

/// The stock kubelet's words, and its rules; besides, an endpoint leads nowhere but to a socket in the directory.
fn check(request: &RegisterRequest, dir: &Path) -> Result<(), Status> {
    if request.version != VERSION {
        return Err(Status::unknown(format!(
            "requested API version {:?} is not supported by kubelet. Supported version is {VERSION:?}",
            request.version
        )));
    }
    if !is_extended(&request.resource_name) {
        return Err(Status::unknown(format!(
            "the ResourceName {:?} is invalid",
            request.resource_name
        )));
    }
    let endpoint = &request.endpoint;
    let plain = !endpoint.is_empty()
        && endpoint != "."
        && endpoint != ".."
        && endpoint != SOCKET
        && !endpoint.contains(['/', '\0']);
    if !plain || dir.join(endpoint).as_os_str().len() > MAX_PATH {
        return Err(Status::unknown(format!(
            "the endpoint {endpoint:?} is not the name of a socket in {}",
            dir.display()
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_plugin_of_a_resource_is_refused() {
        let dir = Path::new("/var/lib/kubelet/device-plugins");
        let request = |version: &str, resource: &str, endpoint: &str| RegisterRequest {
            version: version.to_owned(),
            endpoint: endpoint.to_owned(),
            resource_name: resource.to_owned(),
            options: None,
        };
        check(&request("v1beta1", "v.com/gpu", "gpu.sock"), dir).unwrap();
        for version in ["", "v1alpha1", "v1"] {
            let refused = check(&request(version, "v.com/gpu", "gpu.sock"), dir).unwrap_err();
            assert!(refused.message().contains("is not supported"), "{version}");
        }
        for resource in [
            "cpu",
            "memory",
            "pods",
            "",
            "gpu",
            "kubernetes.io/gpu",
            "requests.v.com/gpu",
            "v.com/",
            "v.com/a/b",
            "V_/x",
        ] {
            let refused = check(&request("v1beta1", resource, "gpu.sock"), dir).unwrap_err();
            assert!(refused.message().contains("is invalid"), "{resource}");
        }
        let long = "x".repeat(100);
        for endpoint in [
            "",
            ".",
            "..",
            "../cri.sock",
            "/run/berth/cri.sock",
            "a/b",
            "kubelet.sock",
            "a\0b",
            &long,
        ] {
            let refused = check(&request("v1beta1", "v.com/gpu", endpoint), dir).unwrap_err();
            assert!(
                refused.message().contains("not the name of a socket"),
                "{endpoint}"
            );
        }
    }
}
