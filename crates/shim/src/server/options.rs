//! `CreateTaskRequest.options`: ours, or containerd's for runc.

use std::path::PathBuf;

use berth_oci::runtime::{RuntimeCommand, RuntimeKind};
use containerd_shim_protos::shim::oci::Options;
use protobuf::Message;
use protobuf::well_known_types::any::Any;

use super::error::Error;
use crate::client::OWN_OPTIONS;

/// How to call the runtime that the options ask for.
pub(super) fn command(options: Option<&Any>, namespace: &str) -> Result<RuntimeCommand, Error> {
    let runc = |options: Options| {
        let binary = if options.binary_name.is_empty() {
            "runc"
        } else {
            &options.binary_name
        };
        let root = if options.root.is_empty() {
            "/run/containerd/runc"
        } else {
            &options.root
        };
        let binary = PathBuf::from(binary);
        let mut command = RuntimeCommand::new(
            RuntimeKind::from_name(&binary),
            &binary,
            PathBuf::from(root).join(namespace),
        );
        command.systemd_cgroup = options.systemd_cgroup;
        command
    };
    let Some(options) = options else {
        return Ok(runc(Options::default()));
    };
    match options
        .type_url
        .rsplit_once('/')
        .map_or(options.type_url.as_str(), |(_, name)| name)
    {
        "" => Ok(runc(Options::default())),
        _ if options.type_url == OWN_OPTIONS => {
            serde_json::from_slice(&options.value).map_err(|source| Error::Malformed {
                what: "runtime options",
                source,
            })
        }
        "containerd.runc.v1.Options" => Options::parse_from_bytes(&options.value)
            .map(runc)
            .map_err(|_| Error::Options(options.type_url.clone())),
        _ => Err(Error::Options(options.type_url.clone())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runcs_options_name_the_binary() {
        let options = Options {
            binary_name: "/usr/bin/crun".into(),
            systemd_cgroup: true,
            ..Default::default()
        };
        let any = Any {
            type_url: "containerd.runc.v1.Options".into(),
            value: options.write_to_bytes().expect("encode"),
            ..Default::default()
        };
        let got = command(Some(&any), "k8s.io").expect("understood");
        assert_eq!(got.kind, RuntimeKind::Crun);
        assert!(got.systemd_cgroup);
        assert_eq!(got.root, PathBuf::from("/run/containerd/runc/k8s.io"));
        let strange = Any {
            type_url: "x/y.Options".into(),
            ..Default::default()
        };
        assert!(matches!(
            command(Some(&strange), "n"),
            Err(Error::Options(_))
        ));
    }
}
