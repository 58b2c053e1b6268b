//! The kubelet's own gRPC interfaces on the wire, generated from their definitions: what device plugins and the
//! watchers of pods' devices speak with a node, over unix sockets.
//!
//! Names, numbers and types are those of kubernetes/kubelet, where their meaning is documented.

/// Device plugins: `v1beta1.Registration` is served by the node, `v1beta1.DevicePlugin` by each plugin.
#[allow(missing_docs, clippy::all, clippy::pedantic, rustdoc::all)]
pub mod device_plugin {
    tonic::include_proto!("v1beta1");
}

/// Which pods have which devices: `v1.PodResourcesLister`, served by the node.
#[allow(missing_docs, clippy::all, clippy::pedantic, rustdoc::all)]
pub mod pod_resources {
    tonic::include_proto!("v1");
}

#[cfg(test)]
mod tests {
    use super::{device_plugin, pod_resources};
    use prost::Message;

    /// Tag and value as the wire has them: the field's number is what two programs agree on.
    #[test]
    fn fields_have_their_numbers() {
        let register = device_plugin::RegisterRequest {
            version: "a".to_owned(),
            endpoint: "b".to_owned(),
            resource_name: "c".to_owned(),
            options: Some(device_plugin::DevicePluginOptions {
                pre_start_required: true,
                get_preferred_allocation_available: true,
            }),
        };
        assert_eq!(
            register.encode_to_vec(),
            [10, 1, b'a', 18, 1, b'b', 26, 1, b'c', 34, 4, 8, 1, 16, 1]
        );
        let answer = device_plugin::ContainerAllocateResponse {
            cdi_devices: vec![device_plugin::CdiDevice {
                name: "d".to_owned(),
            }],
            ..Default::default()
        };
        assert_eq!(answer.encode_to_vec(), [5 << 3 | 2, 3, 10, 1, b'd']);
        let container = pod_resources::ContainerResources {
            name: "a".to_owned(),
            cpu_ids: vec![3],
            ..Default::default()
        };
        assert_eq!(container.encode_to_vec(), [10, 1, b'a', 3 << 3 | 2, 1, 3]);
    }
}
