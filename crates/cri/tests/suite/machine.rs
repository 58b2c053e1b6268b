//! The table of handlers follows the machine: binaries and files that appear and go while the server runs.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use berth_cri::{Config, HandlerSource};
use berth_cri_api::v1::{NamespaceMode, StatusRequest};

use crate::client::{pod, until};
use crate::server::Server;

/// A shim that says its version, and notes each time that it is run.
fn shim(path: &Path) {
    let script = "#!/bin/sh\necho run >> $0.runs\ncase $1 in --version) echo 'a shim, version: 7.1, commit: x';; *) exit 2;; esac\n";
    let new = path.with_extension("new");
    std::fs::write(&new, script).unwrap();
    std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::rename(new, path).unwrap();
}

fn runs(path: &Path) -> usize {
    let runs = std::fs::read_to_string(format!("{}.runs", path.display()));
    runs.map_or(0, |text| text.lines().count())
}

/// Where a test has its binaries and files: not beside the table, whose directory is looked at for itself.
fn place(dir: &Path) -> PathBuf {
    let place = dir.join("machine");
    std::fs::create_dir_all(&place).unwrap();
    place
}

/// Settings with a handler table in which DIR is [`place`].
fn table(text: &'static str) -> impl FnOnce(&mut Config, &Path) {
    move |config, dir| {
        let path = dir.join("config.toml");
        std::fs::write(
            &path,
            text.replace("DIR", &place(dir).display().to_string()),
        )
        .unwrap();
        config.handlers = HandlerSource::Berth(path);
    }
}

/// What `Status` says of each handler: its version, or why it can't run.
async fn states(server: &mut Server) -> BTreeMap<String, String> {
    let request = StatusRequest { verbose: true };
    let status = server.client.status(request).await.unwrap().into_inner();
    let info: serde_json::Value = serde_json::from_str(&status.info["handlers"]).unwrap();
    let handlers = info["handlers"].as_object().unwrap();
    let advertised = |name: &str| status.runtime_handlers.iter().any(|h| h.name == name);
    handlers
        .iter()
        .map(|(name, state)| {
            let usable = state["version"].as_str();
            assert_eq!(usable.is_some(), advertised(name), "{name}: {status:?}");
            let text = usable.or(state["error"].as_str()).unwrap();
            (name.clone(), text.to_owned())
        })
        .collect()
}

async fn state_becomes(server: &mut Server, handler: &str, wanted: &str) {
    until("new state", async || {
        match states(server).await.remove(handler) {
            Some(state) if state.contains(wanted) => Ok(()),
            state => Err(format!("{handler}: {state:?} does not say {wanted:?}")),
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_binary_that_appears_or_goes_is_noticed() {
    let text = "default_handler = \"runc\"\n[handlers.runc]\n[handlers.late]\nkind = \"shim\"\nbinary = \"DIR/late\"\n\
                [handlers.there]\nkind = \"shim\"\nbinary = \"DIR/there\"\n";
    let mut there = PathBuf::new();
    let mut server = Server::start_with(|config, dir| {
        there = place(dir).join("there");
        shim(&there);
        table(text)(config, dir);
    })
    .await;
    let late = place(server.path()).join("late");
    let before = runs(&there);
    assert!(before > 0);
    assert!(states(&mut server).await["late"].contains("late does not exist"));
    shim(&late);
    state_becomes(&mut server, "late", "7.1").await;
    std::fs::set_permissions(&late, std::fs::Permissions::from_mode(0o644)).unwrap();
    state_becomes(&mut server, "late", "late is not executable").await;
    let error = server.try_run(&pod(&server, "no"), "late").await;
    let error = error.unwrap_err();
    assert_eq!(error.code(), tonic::Code::FailedPrecondition);
    assert!(
        error.message().contains("late is not executable"),
        "{error}"
    );
    shim(&late);
    state_becomes(&mut server, "late", "7.1").await;
    std::fs::remove_file(&late).unwrap();
    state_becomes(&mut server, "late", "late does not exist").await;
    // Only what has changed is run again.
    assert_eq!(runs(&there), before);
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_default_handler_that_goes_is_refused_until_it_is_back() {
    let text = "default_handler = \"own\"\n[handlers.own]\nbinary = \"DIR/own\"\n[handlers.late]\nkind = \"shim\"\nbinary = \"DIR/late\"\n";
    let runtime = ["/usr/bin/runc", "/usr/sbin/runc"];
    let runtime = runtime.into_iter().find(|path| Path::new(path).exists());
    let runtime = runtime.expect("runc");
    let mut server = Server::start_with(|config, dir| {
        std::os::unix::fs::symlink(runtime, place(dir).join("own")).unwrap();
        table(text)(config, dir);
    })
    .await;
    let own = place(server.path()).join("own");
    std::fs::remove_file(&own).unwrap();
    state_becomes(&mut server, "own", "own does not exist").await;
    let error = server.try_run(&pod(&server, "no"), "").await.unwrap_err();
    assert!(error.message().contains("own does not exist"), "{error}");
    // The rest goes on.
    shim(&place(server.path()).join("late"));
    state_becomes(&mut server, "late", "7.1").await;
    std::os::unix::fs::symlink(runtime, &own).unwrap();
    until("default", async || {
        let states = states(&mut server).await;
        let state = &states["own"];
        if state.contains("not exist") {
            Err(state.clone())
        } else {
            Ok(())
        }
    })
    .await;
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_katas_configuration_names_is_looked_for() {
    let text = "default_handler = \"runc\"\n[handlers.runc]\n[handlers.kata]\nkind = \"shim\"\n\
                binary = \"DIR/containerd-shim-kata-v2\"\nconfig = \"DIR/kata.toml\"\n";
    let mut server = Server::start_with(|config, dir| {
        shim(&place(dir).join("containerd-shim-kata-v2"));
        table(text)(config, dir);
    })
    .await;
    let dir = place(server.path());
    let place = |name: &str| dir.join(name);
    state_becomes(&mut server, "kata", "kata.toml does not exist").await;
    let text =
        "[hypervisor.qemu]\npath = \"DIR/qemu\"\nkernel = \"DIR/vmlinuz\"\nimage = \"DIR/image\"\n";
    let text = text.replace("DIR", &dir.display().to_string());
    std::fs::write(place("kata.toml"), text).unwrap();
    state_becomes(&mut server, "kata", "qemu does not exist").await;
    // A script, so that it is not asked for KVM.
    shim(&place("qemu"));
    state_becomes(&mut server, "kata", "hypervisor.qemu.kernel").await;
    std::fs::write(place("vmlinuz"), "").unwrap();
    state_becomes(&mut server, "kata", "hypervisor.qemu.image").await;
    let error = server.try_run(&pod(&server, "no"), "kata").await;
    let error = error.unwrap_err();
    assert!(
        error.message().contains("hypervisor.qemu.image")
            && error.message().contains("kata.toml:4"),
        "{error}"
    );
    std::fs::write(place("image"), "").unwrap();
    state_becomes(&mut server, "kata", "7.1").await;
    std::fs::remove_file(place("vmlinuz")).unwrap();
    state_becomes(&mut server, "kata", "vmlinuz does not exist").await;
    // The hypervisor is never run to learn that.
    assert_eq!(runs(&place("qemu")), 0);
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_virtual_machine_can_not_have_the_hosts_network() {
    let text = "default_handler = \"runc\"\n[handlers.runc]\n[handlers.vm]\nkind = \"shim\"\nbinary = \"DIR/vm\"\nvm = true\n";
    let mut server = Server::start_with(|config, dir| {
        shim(&place(dir).join("vm"));
        table(text)(config, dir);
    })
    .await;
    let mut config = pod(&server, "net");
    let linux = config.linux.as_mut().unwrap();
    let security = linux.security_context.as_mut().unwrap();
    let options = security.namespace_options.as_mut().unwrap();
    options.network = NamespaceMode::Node.into();
    let before = runs(&place(server.path()).join("vm"));
    let error = server.try_run(&config, "vm").await.unwrap_err();
    assert_eq!(error.code(), tonic::Code::InvalidArgument);
    assert!(
        error.message().contains("hostNetwork") && error.message().contains("\"vm\""),
        "{error}"
    );
    assert_eq!(runs(&place(server.path()).join("vm")), before);
    server.finish().await;
}
