//! Puts edits into a spec.

use oci_spec::runtime::{Hook, HookBuilder, Hooks, Linux, LinuxDevice, Mount, Spec};

use super::file::{self, ContainerEdits};
use super::node::{described, oci_type, set_access, takes_rule};
use crate::spec::devices;
use crate::spec::error::SpecError;

pub(super) fn apply(spec: &mut Spec, edits: &ContainerEdits) -> Result<(), SpecError> {
    if let Some(process) = spec.process_mut() {
        let mut env = process.env().clone().unwrap_or_default();
        let name = |l: &str| l.split('=').next().unwrap_or_default().to_owned();
        for line in &edits.env {
            env.retain(|l| name(l) != name(line));
            env.push(line.clone());
        }
        process.set_env(Some(env));
        let user = process.user_mut();
        let mut groups = user.additional_gids().clone().unwrap_or_default();
        groups.extend(edits.additional_gids.iter().filter(|g| **g != 0));
        groups.dedup();
        if !groups.is_empty() {
            user.set_additional_gids(Some(groups));
        }
    }
    if !edits.device_nodes.is_empty() {
        let linux = spec.linux_mut().get_or_insert_with(Linux::default);
        for node in &edits.device_nodes {
            add_node(linux, node)?;
        }
    }
    if !edits.mounts.is_empty() {
        let mounts = spec.mounts_mut().get_or_insert_with(Vec::new);
        mounts.extend(edits.mounts.iter().map(mount));
    }
    if !edits.hooks.is_empty() {
        let mut hooks = spec.hooks().clone().unwrap_or_default();
        for hook in &edits.hooks {
            add_hook(&mut hooks, hook)?;
        }
        spec.set_hooks(Some(hooks));
    }
    Ok(())
}

fn add_node(linux: &mut Linux, wanted: &file::DeviceNode) -> Result<(), SpecError> {
    let mut node = match described(wanted) {
        Some(node) => node,
        None => node_of_host(wanted)?,
    };
    set_access(&mut node, wanted);
    let access = wanted.permissions.as_deref().unwrap_or("rwm");
    let rule = takes_rule(node.typ()).then(|| devices::rule(true, Some(&node), access));
    let nodes = linux.devices_mut().get_or_insert_with(Vec::new);
    nodes.retain(|n| n.path() != node.path());
    nodes.push(node);
    let Some(rule) = rule else { return Ok(()) };
    let resources = linux.resources_mut().get_or_insert_with(Default::default);
    resources
        .devices_mut()
        .get_or_insert_with(Vec::new)
        .push(rule);
    Ok(())
}

/// The host's node, with the number that the file says, if it says one.
fn node_of_host(wanted: &file::DeviceNode) -> Result<LinuxDevice, SpecError> {
    let host = wanted.host_path.as_ref().unwrap_or(&wanted.path);
    let mut node =
        devices::node(host, &wanted.path)?.ok_or_else(|| SpecError::NotADevice(host.clone()))?;
    if let Some(kind) = wanted.kind
        && oci_type(kind) != node.typ()
    {
        return Err(SpecError::CdiDeviceType {
            path: host.clone(),
            wanted: oci_type(kind).as_str().to_owned(),
            found: node.typ().as_str().to_owned(),
        });
    }
    if wanted.major != 0 {
        node.set_major(wanted.major.into());
        node.set_minor(wanted.minor.into());
    }
    Ok(node)
}

fn mount(wanted: &file::Mount) -> Mount {
    let mut options = wanted.options.clone();
    if !options.iter().any(|o| o == "bind" || o == "rbind") {
        options.push("bind".to_owned());
    }
    let mut mount = Mount::default();
    mount.set_destination(wanted.container_path.clone());
    mount.set_source(Some(wanted.host_path.clone()));
    mount.set_typ(Some(
        wanted.kind.clone().unwrap_or_else(|| "bind".to_owned()),
    ));
    mount.set_options(Some(options));
    mount
}

fn add_hook(hooks: &mut Hooks, wanted: &file::Hook) -> Result<(), SpecError> {
    let mut builder = HookBuilder::default().path(wanted.path.clone());
    if let Some(args) = &wanted.args {
        builder = builder.args(args.clone());
    }
    if let Some(env) = &wanted.env {
        builder = builder.env(env.clone());
    }
    if let Some(timeout) = wanted.timeout {
        builder = builder.timeout(timeout);
    }
    let hook: Hook = builder.build()?;
    let with = |list: &Option<Vec<Hook>>| {
        let mut list = list.clone().unwrap_or_default();
        list.push(hook.clone());
        Some(list)
    };
    match wanted.hook_name.as_str() {
        "createRuntime" => drop(hooks.set_create_runtime(with(hooks.create_runtime()))),
        "createContainer" => drop(hooks.set_create_container(with(hooks.create_container()))),
        "startContainer" => drop(hooks.set_start_container(with(hooks.start_container()))),
        "poststart" => drop(hooks.set_poststart(with(hooks.poststart()))),
        "poststop" => drop(hooks.set_poststop(with(hooks.poststop()))),
        #[allow(deprecated)]
        "prestart" => drop(hooks.set_prestart(with(hooks.prestart()))),
        other => return Err(SpecError::UnknownCdiHook(other.to_owned())),
    }
    Ok(())
}
