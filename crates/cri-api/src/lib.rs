//! CRI v1 on the wire: messages, services and clients, generated from their definition.
//!
//! The definition in `proto/` has the messages and fields of the CRI as of Kubernetes 1.37, without what only Windows
//! has: the three messages that remain of it are empty, so that they can be seen and refused. Names, numbers and types
//! are the interface's; what they mean is documented in kubernetes/cri-api.

pub mod authority;
pub mod signal;

/// Version 1, the only one that kubelets still speak.
#[allow(missing_docs, clippy::all, clippy::pedantic, rustdoc::all)]
pub mod v1 {
    tonic::include_proto!("runtime.v1");
}

/// Without secrets: requests are logged.
impl std::fmt::Debug for v1::AuthConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AuthConfig")
            .field("username", &self.username)
            .field("server_address", &self.server_address)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::v1::*;
    use prost::Message;

    /// Tag and value as the wire has them: the field's number is what two programs agree on.
    #[test]
    fn newer_fields_have_their_numbers() {
        let mount = Mount {
            image_sub_path: "a".to_owned(),
            mount_options: vec!["b".to_owned()],
            ..Mount::default()
        };
        assert_eq!(
            mount.encode_to_vec(),
            [10 << 3 | 2, 1, b'a', 11 << 3 | 2, 1, b'b']
        );
        let config = ContainerConfig {
            stop_signal: Signal::Sigusr1.into(),
            ..ContainerConfig::default()
        };
        assert_eq!(config.encode_to_vec(), [0x90, 0x01, 29]);
        let features = RuntimeFeatures {
            supplemental_groups_policy: true,
            user_namespaces_host_network: true,
            mount_options: true,
        };
        assert_eq!(features.encode_to_vec(), [8, 1, 16, 1, 24, 1]);
    }

    #[test]
    fn secrets_are_not_printed() {
        let auth = AuthConfig {
            username: "me".to_owned(),
            password: "hidden1".to_owned(),
            auth: "hidden2".to_owned(),
            server_address: "there".to_owned(),
            identity_token: "hidden3".to_owned(),
            registry_token: "hidden4".to_owned(),
        };
        let text = format!("{auth:?}");
        assert!(
            text.contains("me") && text.contains("there") && !text.contains("hidden"),
            "{text}"
        );
    }
}
