//! `Version`, `RuntimeConfig` and `Status`: whether pods can be run, and by which handlers.

use std::collections::HashMap;

use berth_cri_api::v1::{
    CgroupDriver, LinuxRuntimeConfiguration, RuntimeCondition, RuntimeConfigResponse,
    RuntimeFeatures, RuntimeHandler, RuntimeHandlerFeatures, RuntimeStatus, StatusResponse,
    VersionResponse,
};
use serde_json::{Value, json};

use crate::cni;
use crate::engine::Shared;
use crate::error::chain;
use crate::handlers::{HandlerState, HandlerTable, kind_name, settings_in_words};
use crate::warm;

pub(crate) fn version() -> VersionResponse {
    VersionResponse {
        version: "0.1.0".to_owned(),
        runtime_name: "berth".to_owned(),
        runtime_version: env!("CARGO_PKG_VERSION").to_owned(),
        runtime_api_version: "v1".to_owned(),
    }
}

/// What a kubelet does as the runtime does.
pub(crate) fn runtime_config(engine: &Shared) -> RuntimeConfigResponse {
    let driver = if engine.handlers.load().systemd_cgroup() {
        CgroupDriver::Systemd
    } else {
        CgroupDriver::Cgroupfs
    };
    RuntimeConfigResponse {
        linux: Some(LinuxRuntimeConfiguration {
            cgroup_driver: driver.into(),
        }),
    }
}

pub(crate) fn status(engine: &Shared, verbose: bool) -> StatusResponse {
    let table = engine.handlers.load();
    let network = engine
        .network()
        .and_then(|network| cni::check_plugins(&network, &engine.plugin_dirs()).map(|()| network));
    let network_condition = match &network {
        Ok(_) => condition("NetworkReady", None),
        Err(error) => condition(
            "NetworkReady",
            Some(("NetworkPluginNotReady", chain(error))),
        ),
    };
    let mut info = HashMap::new();
    if verbose {
        info.insert("handlers".to_owned(), handlers(&table).to_string());
        let text = json!({
            "rootDir": engine.config.root_dir,
            "stateDir": engine.config.state_dir,
            "network": network.ok(),
        });
        info.insert("config".to_owned(), text.to_string());
        let waiting = warm::report(engine);
        if !waiting.is_null() {
            info.insert("waitingSandboxes".to_owned(), waiting.to_string());
        }
        let unreadable: serde_json::Map<String, Value> = engine
            .held
            .all()
            .into_iter()
            .map(|(id, item)| (id, json!({ "record": item.record, "reason": item.reason })))
            .collect();
        if !unreadable.is_empty() {
            info.insert(
                "unreadableRecords".to_owned(),
                Value::Object(unreadable).to_string(),
            );
        }
    }
    StatusResponse {
        status: Some(RuntimeStatus {
            conditions: vec![condition("RuntimeReady", None), network_condition],
        }),
        info,
        runtime_handlers: runtime_handlers(&table),
        features: Some(RuntimeFeatures {
            supplemental_groups_policy: true,
            user_namespaces_host_network: false,
            mount_options: true,
        }),
    }
}

fn condition(kind: &str, problem: Option<(&str, String)>) -> RuntimeCondition {
    let status = problem.is_none();
    let (reason, message) = problem.unwrap_or_default();
    RuntimeCondition {
        r#type: kind.to_owned(),
        status,
        reason: reason.to_owned(),
        message,
    }
}

/// Those that can run, and the default once more under the empty name, as the CRI wants it.
fn runtime_handlers(table: &HandlerTable) -> Vec<RuntimeHandler> {
    let usable = table.iter().filter_map(|handler| match &handler.state {
        HandlerState::Usable { features, .. } if handler.unlisted().is_none() => {
            Some((handler.definition.name.as_str(), features))
        }
        HandlerState::Usable { .. } | HandlerState::Broken { .. } => None,
    });
    let listed: Vec<_> = usable.collect();
    let default = listed
        .iter()
        .find(|(name, _)| *name == table.default_name())
        .map(|(_, features)| ("", *features));
    default
        .into_iter()
        .chain(listed.iter().copied())
        .map(|(name, features)| RuntimeHandler {
            name: name.to_owned(),
            features: Some(RuntimeHandlerFeatures {
                recursive_read_only_mounts: features.recursive_read_only_mounts,
                user_namespaces: features.user_namespaces,
            }),
        })
        .collect()
}

fn handlers(table: &HandlerTable) -> Value {
    let entries: serde_json::Map<String, Value> = table
        .iter()
        .map(|handler| {
            let origin = handler.definition.origin.to_string();
            let value = match (&handler.state, handler.unlisted()) {
                (
                    HandlerState::Usable {
                        binary,
                        kind,
                        version,
                        ..
                    },
                    None,
                ) => json!({
                    "binary": binary,
                    "kind": kind.map_or("shim", kind_name),
                    "version": version,
                    "origin": origin,
                    "settings": settings_in_words(handler),
                    "isolation": handler.isolation(),
                }),
                (HandlerState::Usable { .. } | HandlerState::Broken { .. }, reason) => {
                    json!({ "error": reason, "origin": origin })
                }
            };
            (handler.definition.name.clone(), value)
        })
        .collect();
    json!({ "default": table.default_name(), "handlers": entries })
}
