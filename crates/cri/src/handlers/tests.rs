//! The importers against files as machines have them, and the table's rules.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::*;

fn write(dir: &Path, name: &str, text: &str) -> PathBuf {
    let path = dir.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, text).unwrap();
    path.canonicalize().unwrap()
}

fn names(imported: &import::Imported) -> Vec<(String, usize)> {
    imported
        .handlers
        .iter()
        .map(|h| (h.name.clone(), h.origin.line))
        .collect()
}

#[test]
fn containerd_versions_say_the_same() {
    let bodies = [
        ("[plugins.cri.containerd", ""),
        (
            "[plugins.\"io.containerd.grpc.v1.cri\".containerd",
            "version = 2",
        ),
        (
            "[plugins.\"io.containerd.cri.v1.runtime\".containerd",
            "version = 3",
        ),
        (
            "[plugins.'io.containerd.cri.v1.runtime'.containerd",
            "version = 4",
        ),
    ];
    for (section, version) in bodies {
        let dir = tempfile::tempdir().unwrap();
        let text = format!(
            "{version}\n{section}]\n  default_runtime_name = \"runsc\"\n{section}.runtimes.runc]\n  runtime_type = \"io.containerd.runc.v2\"\n  \
             pod_annotations = [\"a.b/*\"]\n{section}.runtimes.runc.options]\n  BinaryName = \"/usr/sbin/runc\"\n  SystemdCgroup = true\n\
             {section}.runtimes.runsc]\n  runtime_type = \"io.containerd.runsc.v1\"\n{section}.runtimes.kata]\n  \
             runtime_type = \"io.containerd.kata.v2\"\n  privileged_without_host_devices = true\n  snapshotter = \"stargz\"\n"
        );
        let path = write(dir.path(), "config.toml", &text);
        let imported = containerd::import(&path).unwrap();
        assert_eq!(
            names(&imported),
            [
                ("kata".to_owned(), 12),
                ("runc".to_owned(), 4),
                ("runsc".to_owned(), 10)
            ],
            "{text}"
        );
        assert_eq!(imported.default.as_ref().unwrap().0, "runsc");
        assert_eq!(imported.default.as_ref().unwrap().1.line, 3);
        assert_eq!(
            imported.handlers[0].runtime,
            RuntimeDef::Shim {
                binary: "containerd-shim-kata-v2".into(),
                config: None,
                config_type: None,
                runtime_binary: None,
                systemd_cgroup: false,
                vm: true
            }
        );
        assert!(imported.handlers[0].privileged_without_host_devices);
        assert_eq!(
            imported.handlers[1].runtime,
            RuntimeDef::Oci {
                binary: "/usr/sbin/runc".into(),
                root: None,
                systemd_cgroup: true,
                config: None,
                args: vec![]
            }
        );
        assert_eq!(imported.handlers[1].pod_annotations, ["a.b/*"]);
        assert!(
            imported
                .warnings
                .iter()
                .any(|w| w.message.contains("snapshotter") && w.origin.line == 15)
        );
    }
}

#[test]
fn a_snapshotter_that_is_no_other_overlayfs_is_refused() {
    for (snapshotter, warns, refuses) in [
        ("", false, false),
        ("overlayfs", false, false),
        ("btrfs", true, false),
        ("nydus", false, true),
        ("devmapper", false, true),
        ("blockfile", false, true),
        ("of-tomorrow", false, true),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let section = "plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.kata";
        let theirs = format!(
            "version = 2\n[{section}]\nruntime_type = \"io.containerd.kata.v2\"\nsnapshotter = \"{snapshotter}\"\n"
        );
        let theirs = containerd::import(&write(dir.path(), "theirs.toml", &theirs)).unwrap();
        let ours = format!("[handlers.kata]\nsnapshotter = \"{snapshotter}\"\n");
        let ours = own::import(&write(dir.path(), "ours.toml", &ours), false).unwrap();
        for imported in [theirs, ours] {
            let warned = imported.warnings.iter().any(|warning| {
                warning.message.contains("snapshotter") && warning.message.contains(snapshotter)
            });
            assert_eq!(warned, warns, "{snapshotter}: {:?}", imported.warnings);
            let reason = imported.handlers[0].unreadable.join("");
            assert_eq!(
                reason.contains("snapshotter"),
                refuses,
                "{snapshotter}: {reason}"
            );
        }
    }
}

#[test]
fn containerd_imports_are_laid_over() {
    let dir = tempfile::tempdir().unwrap();
    let path = write(
        dir.path(),
        "config.toml",
        "version = 3\nimports = [\"conf.d/*.toml\"]\n[plugins.\"io.containerd.cri.v1.images\".registry]\nconfig_path = \"/a:/b\"\n\
         [plugins.\"io.containerd.cri.v1.runtime\".containerd.runtimes.runc]\nruntime_type = \"io.containerd.runc.v2\"\n",
    );
    let drop_in = write(
        dir.path(),
        "conf.d/10-kata.toml",
        "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.kata]\nruntime_type = \"io.containerd.kata.v2\"\n",
    );
    let imported = containerd::import(&path).unwrap();
    assert_eq!(
        names(&imported),
        [("kata".to_owned(), 2), ("runc".to_owned(), 5)]
    );
    assert_eq!(
        imported.handlers[0].origin.file.as_deref(),
        Some(drop_in.as_path())
    );
    assert_eq!(
        imported.hosts_dirs,
        [PathBuf::from("/a"), PathBuf::from("/b")]
    );
    assert_eq!(imported.files, [path, drop_in]);
}

#[test]
fn containerd_sections_of_another_version_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let path = write(
        dir.path(),
        "config.toml",
        "version = 2\n[plugins.cri.containerd.runtimes.x]\nruntime_type = \"io.containerd.runc.v2\"\n",
    );
    let imported = containerd::import(&path).unwrap();
    assert!(
        imported.warnings[0]
            .message
            .contains("no effect in a file of version 2"),
        "{:?}",
        imported.warnings
    );
    assert_eq!(imported.handlers.len(), 1, "only containerd's own runc");
}

#[test]
fn a_configuration_without_the_section_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let told = |imported: super::import::Imported, section: &str| {
        imported
            .warnings
            .iter()
            .any(|warning| warning.message.contains(section))
    };
    let other = "version = 2\n[debug]\nlevel = \"info\"\n";
    let path = write(dir.path(), "other.toml", other);
    assert!(told(containerd::import(&path).unwrap(), "no section"));
    let good = "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".containerd]\ndefault_runtime_name = \"runc\"\n";
    let path = write(dir.path(), "good.toml", good);
    assert!(!told(containerd::import(&path).unwrap(), "no section"));
    let path = write(
        dir.path(),
        "other.conf",
        "[crio.image]\npause_image = \"p\"\n",
    );
    assert!(told(crio::import(&path).unwrap(), "no section"));
    let path = write(
        dir.path(),
        "good.conf",
        "[crio.runtime]\ndefault_runtime = \"runc\"\n",
    );
    assert!(!told(crio::import(&path).unwrap(), "no section"));
}

#[test]
fn containerd_legacy_untrusted_runtime() {
    let dir = tempfile::tempdir().unwrap();
    let path = write(
        dir.path(),
        "config.toml",
        "[plugins.cri.containerd.untrusted_workload_runtime]\nruntime_type = \"io.containerd.runtime.v1.linux\"\nruntime_engine = \"/usr/bin/runsc\"\n",
    );
    let imported = containerd::import(&path).unwrap();
    assert!(imported.handlers.iter().any(|h| h.name == "untrusted"
        && matches!(&h.runtime, RuntimeDef::Oci { binary, .. } if binary == Path::new("/usr/bin/runsc"))));
}

#[test]
fn the_sandboxer_in_both_forms() {
    let dir = tempfile::tempdir().unwrap();
    let section = "[plugins.\"io.containerd.cri.v1.runtime\".containerd.runtimes";
    for (sandboxer, expected) in [
        ("podsandbox", Some(Sandboxer::PodSandbox)),
        ("shim", Some(Sandboxer::Shim)),
        ("vmm", None),
    ] {
        let text = format!(
            "version = 3\n{section}.kata]\nruntime_type = \"io.containerd.kata.v2\"\nsandboxer = \"{sandboxer}\"\n\
             {section}.runc]\nruntime_type = \"io.containerd.runc.v2\"\nsandboxer = \"{sandboxer}\"\n"
        );
        let path = write(dir.path(), "config.toml", &text);
        let imported = containerd::import(&path).unwrap();
        let find = |name: &str| imported.handlers.iter().find(|h| h.name == name).unwrap();
        let (kata, runc) = (find("kata"), find("runc"));
        let unreadable = kata.unreadable.join("");
        assert_eq!(
            unreadable.contains("\"podsandbox\" or \"shim\", and is \"vmm\""),
            expected.is_none(),
            "{unreadable}"
        );
        assert_eq!(kata.sandboxer, expected.unwrap_or(Sandboxer::PodSandbox));
        // berth drives runc itself, and says that it does.
        assert_eq!(runc.sandboxer, Sandboxer::PodSandbox);
        let told = imported.warnings.iter().any(|w| {
            w.message
                .contains("has no meaning for a runtime that berth drives itself")
        });
        assert_eq!(told, expected == Some(Sandboxer::Shim));

        let text = format!("[handlers.k]\nkind = \"shim\"\nsandboxer = \"{sandboxer}\"\n");
        let path = write(dir.path(), "own.toml", &text);
        let imported = own::import(&path, false).unwrap();
        let message = wrong(&imported);
        match expected {
            Some(_) => {
                assert_eq!(message, "");
                assert_eq!(Some(imported.handlers[0].sandboxer), expected);
            }
            None => assert!(
                message.contains("sandboxer \"vmm\" is none of"),
                "{message}"
            ),
        }
    }
    let path = write(
        dir.path(),
        "oci.toml",
        "[handlers.runc]\nsandboxer = \"shim\"\n",
    );
    let error = wrong(&own::import(&path, false).unwrap());
    assert!(error.contains("kind \"shim\" only"), "{error}");
}

#[test]
fn crio_drop_ins_in_name_order() {
    let dir = tempfile::tempdir().unwrap();
    let path = write(
        dir.path(),
        "crio.conf",
        "[crio.runtime]\ndefault_runtime = \"crun\"\n[crio.runtime.runtimes.crun]\nruntime_path = \"\"\n[crio.runtime.runtimes.old]\nruntime_path = \"/x\"\n",
    );
    write(
        dir.path(),
        "crio.conf.d/10-a.conf",
        "[crio.runtime]\ndefault_runtime = \"runc\"\n[crio.runtime.runtimes.runc]\nruntime_type = \"oci\"\ncontainer_min_memory = \"12MiB\"\nmonitor_path = \"/conmon\"\n",
    );
    write(
        dir.path(),
        "crio.conf.d/20-kata.conf",
        "[crio.runtime.runtimes.kata]\nruntime_type = \"vm\"\nruntime_path = \"/usr/bin/containerd-shim-kata-v2\"\nruntime_config_path = \"/k.toml\"\n\
         allowed_annotations = [\"io.katacontainers.*\"]\n[crio.runtime.runtimes.old]\nruntime_root = \"/r\"\n",
    );
    let imported = crio::import(&path).unwrap();
    assert_eq!(imported.default.as_ref().unwrap().0, "runc");
    let find = |name: &str| imported.handlers.iter().find(|h| h.name == name).unwrap();
    assert!(
        matches!(&find("crun").runtime, RuntimeDef::Oci { binary, .. } if binary == Path::new("crun"))
    );
    assert!(
        matches!(&find("old").runtime, RuntimeDef::Oci { binary, .. } if binary == Path::new("old")),
        "replaced whole"
    );
    assert_eq!(find("runc").container_min_memory, Some(12 << 20));
    assert!(
        matches!(&find("kata").runtime, RuntimeDef::Shim { vm: true, config: Some(c), .. } if c == Path::new("/k.toml"))
    );
    assert!(
        imported
            .warnings
            .iter()
            .any(|w| w.message.contains("monitor_path"))
    );
}

#[test]
fn crio_refuses_what_crio_refuses() {
    for (text, expected) in [
        (
            "[crio.runtime.runtimes.k]\nruntime_type = \"vm\"\nruntime_path = \"/usr/bin/kata\"\n",
            "no name of a VM shim",
        ),
        (
            "[crio.runtime.runtimes.k]\nruntime_config_path = \"/k.toml\"\n",
            "only for runtime_type \"vm\"",
        ),
        (
            "[crio.runtime.runtimes.k]\nruntime_type = \"x\"\n",
            "none of oci, vm and pod",
        ),
        (
            "[crio.runtime.runtimes.k]\ncontainer_min_memory = \"much\"\n",
            "\"much\" is no size",
        ),
        ("[crio.runtime\n", "crio.conf:1"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let path = write(dir.path(), "crio.conf", text);
        let wrong = wrong(&crio::import(&path).unwrap());
        assert!(wrong.contains(expected), "{wrong}");
    }
}

/// Everything that keeps handlers, or a start, from working.
fn wrong(imported: &import::Imported) -> String {
    let refused = imported
        .refused
        .iter()
        .map(|error| crate::error::chain(error));
    let handlers = imported.handlers.iter().flat_map(|h| h.unreadable.clone());
    refused.chain(handlers).collect::<Vec<_>>().join("\n")
}

/// What has no effect though it was meant to have one, with its line.
fn mistakes(imported: &import::Imported) -> Vec<(usize, String)> {
    let mistakes = imported.warnings.iter().filter(|w| w.is_mistake);
    mistakes
        .map(|w| (w.origin.line, w.message.clone()))
        .collect()
}

#[test]
fn what_stands_at_the_wrong_place_is_told_with_the_right_one() {
    let dir = tempfile::tempdir().unwrap();
    let two = "version = 2\n";
    let plugin = "plugins.\"io.containerd.grpc.v1.cri\"";
    for (text, line, words) in [
        (
            format!("{two}[{plugin}.runtimes.kata]\nruntime_type = \"io.containerd.kata.v2\"\n"),
            3,
            format!("runtime_type has no effect in [{plugin}.runtimes.kata]: it belongs into [{plugin}.containerd.runtimes.NAME]"),
        ),
        (
            format!("{two}[{plugin}.containerd.runtime.kata]\nruntime_type = \"io.containerd.kata.v2\"\n"),
            3,
            "it belongs into".to_owned(),
        ),
        (
            format!("{two}[runtimes.kata]\nruntime_type = \"io.containerd.kata.v2\"\n"),
            3,
            "in [runtimes.kata]".to_owned(),
        ),
        (
            format!("{two}default_runtime_name = \"kata\"\n"),
            2,
            format!("default_runtime_name has no effect at the top: it belongs into [{plugin}.containerd]"),
        ),
        (
            format!("{two}[{plugin}.containerd.runtimes.r]\nBinaryName = \"/usr/bin/runsc\"\n"),
            3,
            format!("it belongs into [{plugin}.containerd.runtimes.NAME.options]"),
        ),
        (
            format!("{two}[{plugin}.containerd.runtimes.r.options]\nbinary_name = \"/usr/bin/runsc\"\n"),
            3,
            "options.binary_name is not known and is ignored; did you mean \"BinaryName\"?".to_owned(),
        ),
        (
            format!("{two}[{plugin}.containerd.runtimes.r]\nruntime_tpye = \"io.containerd.runsc.v1\"\n"),
            3,
            "did you mean \"runtime_type\"?".to_owned(),
        ),
        (
            format!("[{plugin}.containerd.runtimes.r]\nruntime_type = \"io.containerd.runsc.v1\"\n"),
            1,
            "a file without a line \"version = 2\" or newer is one of version 1".to_owned(),
        ),
        (
            format!("version = 3\n[{plugin}.containerd.runtimes.r]\nruntime_type = \"io.containerd.runsc.v1\"\n"),
            2,
            "no effect in a file of version 3, where it is plugins.\"io.containerd.cri.v1.runtime\"".to_owned(),
        ),
    ] {
        let path = write(dir.path(), "config.toml", &text);
        let found = mistakes(&containerd::import(&path).unwrap());
        assert!(
            found.iter().any(|(at, message)| *at == line && message.contains(&words)),
            "{text}: {found:?}"
        );
    }
    for (text, line, words) in [
        (
            "[crio.runtimes.kata]\nruntime_path = \"/k\"\n",
            2,
            "runtime_path has no effect in [crio.runtimes.kata]: it belongs into [crio.runtime.runtimes.NAME]",
        ),
        (
            "[crio]\ndefault_runtime = \"kata\"\n",
            2,
            "default_runtime has no effect in [crio]: it belongs into [crio.runtime]",
        ),
        (
            "[crio.runtime.runtimes.kata]\nruntime_pth = \"/k\"\n",
            2,
            "did you mean \"runtime_path\"?",
        ),
    ] {
        let path = write(dir.path(), "crio.conf", text);
        let found = mistakes(&crio::import(&path).unwrap());
        assert!(
            found
                .iter()
                .any(|(at, message)| *at == line && message.contains(words)),
            "{text}: {found:?}"
        );
    }
}

/// As distributions and installers write them: nothing in them is a mistake.
#[test]
fn good_configurations_have_no_mistakes() {
    let dir = tempfile::tempdir().unwrap();
    let plugin = "plugins.\"io.containerd.cri.v1.runtime\"";
    let containerd = format!(
        "version = 3\n[plugins.\"io.containerd.cri.v1.images\".registry]\nconfig_path = \"/etc/containerd/certs.d\"\n\
         [plugins.\"io.containerd.snapshotter.v1.overlayfs\"]\nroot_path = \"\"\n\
         [{plugin}]\nenable_selinux = false\n[{plugin}.containerd]\ndefault_runtime_name = \"runc\"\n\
         [{plugin}.containerd.runtimes.runc]\nruntime_type = \"io.containerd.runc.v2\"\nruntime_path = \"\"\n\
         cgroup_writable = false\nio_type = \"\"\n[{plugin}.containerd.runtimes.runc.options]\nBinaryName = \"\"\n\
         CriuImagePath = \"\"\nIoGid = 0\nSystemdCgroup = true\nNoPivotRoot = false\n\
         [{plugin}.containerd.runtimes.wasm]\nruntime_type = \"io.containerd.wasmtime.v1\"\n\
         [{plugin}.containerd.runtimes.wasm.options]\nEnvironment = \"x\"\n"
    );
    let path = write(dir.path(), "config.toml", &containerd);
    let none: Vec<(usize, String)> = Vec::new();
    assert_eq!(mistakes(&containerd::import(&path).unwrap()), none);
    let crio = "[crio.runtime]\ndefault_runtime = \"runc\"\nconmon = \"/conmon\"\n[crio.runtime.runtimes.runc]\n\
                runtime_path = \"/usr/sbin/runc\"\nmonitor_path = \"/conmon\"\nmonitor_env = [\"PATH=/bin\"]\n\
                default_annotations = {}\n[crio.image]\npause_image = \"p\"\n";
    let path = write(dir.path(), "crio.conf", crio);
    assert_eq!(mistakes(&crio::import(&path).unwrap()), none);
    let own = "[handlers.runc]\n[registry]\nhosts_dirs = [\"/h\"]\n[cni]\nconf_dir = \"/c\"\n";
    let path = write(dir.path(), "own.toml", own);
    let imported = own::import(&path, true).unwrap();
    assert_eq!(
        (mistakes(&imported), wrong(&imported)),
        (none, String::new())
    );
}

#[test]
fn a_file_of_another_program_is_named_as_such() {
    let dir = tempfile::tempdir().unwrap();
    let daemon = write(
        dir.path(),
        "daemon.json",
        "{\"runtimes\": {\"runsc\": {\"path\": \"/usr/bin/runsc\"}}}",
    );
    let crio = write(
        dir.path(),
        "crio.conf",
        "[crio.runtime]\ndefault_runtime = \"runc\"\n",
    );
    let containerd = write(dir.path(), "config.toml", "version = 2\n[plugins]\n");
    let own = write(dir.path(), "own.toml", "[handlers.runc]\n");
    let kata = write(
        dir.path(),
        "configuration.toml",
        "[hypervisor.qemu]\npath = \"/q\"\n",
    );
    let gvisor = write(
        dir.path(),
        "runsc.toml",
        "[runsc_config]\nplatform = \"ptrace\"\n",
    );
    let refused = |source: HandlerSource| source.survey(&[]).unwrap_err().to_string();
    for (path, words) in [
        (&daemon, "this is Docker's daemon.json"),
        (
            &crio,
            "this is CRI-O's configuration: give it with --crio-config",
        ),
        (
            &own,
            "this is berth's own configuration: give it with --config",
        ),
        (&kata, "this is Kata's configuration"),
        (&gvisor, "this is gVisor's configuration"),
    ] {
        let told = refused(HandlerSource::Containerd(path.clone()));
        assert!(told.contains(words), "{told}");
    }
    for path in [&daemon, &crio, &containerd, &kata, &gvisor] {
        let told = refused(HandlerSource::Berth(path.clone()));
        assert!(told.contains("this is "), "{told}");
    }
    // crio.conf.d beside it could be good: all of it is judged, and the start refuses it.
    for path in [&daemon, &containerd, &own, &kata, &gvisor] {
        let source = HandlerSource::Crio(path.clone());
        let told = source.survey(&[]).unwrap().refusals().join("\n");
        assert!(told.contains("this is "), "{told}");
        source.load(&[]).unwrap_err();
    }
}

#[test]
fn one_broken_entry_hides_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let text = "default_handler = \"nope\"\nfrob = 1\n[handlers.a]\nbinarry = \"x\"\n[handlers.b]\nkind = \"c\"\n\
                [handlers.c]\nbinary = \"/nowhere/c\"\n[handlers.\"d.v1\"]\nbinary = \"/nowhere/d\"\n";
    let path = write(dir.path(), "config.toml", text);
    write(dir.path(), "config.toml.d/z.toml", "[handlers.e\n");
    let source = HandlerSource::Berth(path);
    let survey = source.survey(&[]).unwrap();
    let broken: Vec<(String, String)> = survey
        .table()
        .iter()
        .map(|h| (h.definition.name.clone(), h.broken().unwrap()))
        .collect();
    let reason = |name: &str| &broken.iter().find(|(n, _)| n == name).unwrap().1;
    assert!(
        reason("a").contains("unknown key \"binarry\"")
            && reason("a").contains("did you mean \"binary\"?")
    );
    assert!(reason("b").contains("kind \"c\" is none of"));
    assert_eq!(reason("c"), "/nowhere/c does not exist");
    let refusals = survey.refusals().join("\n");
    for words in [
        "\"frob\" is not a key",
        "z.toml:1",
        "no runtime handler \"nope\" is configured",
    ] {
        assert!(refusals.contains(words), "{words}: {refusals}");
    }
    let mistakes: Vec<&str> = survey.mistakes().map(|w| w.message.as_str()).collect();
    assert!(
        mistakes[0].starts_with("no RuntimeClass can name handler \"d.v1\""),
        "{mistakes:?}"
    );
    source.load(&[]).unwrap_err();
}

#[test]
fn own_file_merges_drop_ins_and_refuses_unknown_keys() {
    let dir = tempfile::tempdir().unwrap();
    let path = write(
        dir.path(),
        "config.toml",
        "default_handler = \"a\"\n[handlers.a]\nbinary = \"runc\"\n[registry]\nhosts_dirs = [\"/h\"]\n",
    );
    write(
        dir.path(),
        "config.toml.d/b.toml",
        "[handlers.b]\nkind = \"shim\"\nbinary = \"containerd-shim-runc-v2\"\n",
    );
    let imported = own::import(&path, false).unwrap();
    assert_eq!(names(&imported), [("a".to_owned(), 2), ("b".to_owned(), 1)]);
    assert_eq!(imported.hosts_dirs, [PathBuf::from("/h")]);

    write(
        dir.path(),
        "config.toml.d/c.toml",
        "[handlers.c]\nbinarry = \"runc\"\n",
    );
    let error = wrong(&own::import(&path, false).unwrap());
    assert!(
        error.contains("c.toml:2") && error.contains("binarry"),
        "{error}"
    );
}

#[test]
fn the_runtime_inside_is_the_default_where_runc_is_missing() {
    let default = |inside, installed: &[&str]| {
        let imported = super::built_in::table_with(inside, |name| installed.contains(&name));
        let names: Vec<String> = imported.handlers.iter().map(|h| h.name.clone()).collect();
        let (default, _) = imported.default.unwrap();
        (default, names.join(" "), imported.warnings.len())
    };
    let of =
        |default: &str, names: &str, warnings| (default.to_owned(), names.to_owned(), warnings);
    assert_eq!(
        default(true, &["runc", "crun"]),
        of("runc", "runc crun berth", 0)
    );
    assert_eq!(default(true, &["crun"]), of("berth", "runc crun berth", 1));
    assert_eq!(default(false, &[]), of("runc", "runc", 0));
}

#[test]
fn the_runtime_inside_is_configured_like_others() {
    let dir = tempfile::tempdir().unwrap();
    let text = "[handlers.berth]\nsystemd_cgroup = true\n[handlers.other]\nkind = \"berth\"\nroot = \"/r\"\n";
    let path = write(dir.path(), "config.toml", text);
    let imported = own::import(&path, true).unwrap();
    let embedded = |root: Option<&str>, systemd_cgroup| RuntimeDef::Embedded {
        root: root.map(PathBuf::from),
        systemd_cgroup,
        args: Vec::new(),
    };
    let runtimes: Vec<_> = imported
        .handlers
        .iter()
        .map(|h| h.runtime.clone())
        .collect();
    assert_eq!(
        runtimes,
        [embedded(None, true), embedded(Some("/r"), false)]
    );
    // A program without it says so.
    let survey = HandlerSource::Berth(path).survey(&[]).unwrap();
    assert!(survey.table().iter().all(|handler| matches!(&handler.state,
        super::HandlerState::Broken { reason } if reason.contains("no runtime inside"))));
}

#[test]
fn docker_is_refused_with_the_reason() {
    let dir = tempfile::tempdir().unwrap();
    let path = write(
        dir.path(),
        "daemon.json",
        r#"{"runtimes":{"runsc":{"path":"/usr/bin/runsc"}}}"#,
    );
    let error = HandlerSource::Docker(path)
        .load(&[])
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("runsc") && error.contains("dockershim"),
        "{error}"
    );
}

#[test]
fn missing_binaries_are_listed_and_refused_but_a_broken_default_is_fatal() {
    let dir = tempfile::tempdir().unwrap();
    let good = write(dir.path(), "fake", "#!/bin/sh\necho fake version 1.2.3\n");
    std::fs::set_permissions(&good, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let text = format!(
        "default_handler = \"good\"\n[handlers.good]\nbinary = {good:?}\n[handlers.bad]\nbinary = \"/nonexistent/runtime\"\n"
    );
    let path = write(dir.path(), "config.toml", &text);
    let table = HandlerSource::Berth(path.clone()).load(&[]).unwrap();
    assert!(table.find("good").is_ok());
    assert_eq!(table.find("").unwrap().definition.name, "good");
    let refused = table.find("bad").unwrap_err().to_string();
    assert!(
        refused.contains("\"bad\"")
            && refused.contains("config.toml:4")
            && refused.contains("/nonexistent/runtime does not exist"),
        "{refused}"
    );
    let refused = table.find("nope").unwrap_err().to_string();
    assert!(refused.contains("known handlers: bad, good"), "{refused}");
    let rendered = table.render();
    assert!(
        rendered.contains("good (default)")
            && rendered.contains("1.2.3")
            && rendered.contains("config.toml:2"),
        "{rendered}"
    );

    std::fs::write(
        &path,
        text.replace("default_handler = \"good\"", "default_handler = \"bad\""),
    )
    .unwrap();
    let error = HandlerSource::Berth(path).load(&[]).unwrap_err();
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert!(
        error.to_string().contains("config.toml:1") && source.contains("/nonexistent/runtime"),
        "{error}: {source}"
    );
}

#[test]
fn what_is_wrong_in_our_own_file_is_said_with_its_line() {
    for (text, line, words) in [
        ("\ndefault_handlr = \"runc\"\n", 2, "default_handlr"),
        ("[handler.gvisor]\n", 1, "handler"),
        ("version = 2\n[plugins]\n", 2, "--containerd-config"),
        ("[crio.runtime]\n", 1, "--crio-config"),
        (
            "[handlers.runc]\nsystemd_cgroup = \"yes\"\n",
            2,
            "systemd_cgroup (FILE:2) must be true or false",
        ),
        (
            "[handlers.runc]\nargs = \"--x\"\n",
            2,
            "args (FILE:2) must be a list of texts",
        ),
        (
            "[handlers.runc]\nbinary = 3\n",
            2,
            "binary (FILE:2) must be a text",
        ),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let path = write(dir.path(), "config.toml", text);
        let message = match own::import(&path, true) {
            Ok(imported) => wrong(&imported),
            Err(error) => error.to_string(),
        };
        let message = message.replace(&path.display().to_string(), "FILE");
        assert!(message.contains(words), "{message}");
        assert!(message.contains(&format!("FILE:{line}")), "{message}");
    }
}

#[test]
fn a_handler_with_settings_that_cannot_be_read_cannot_run() {
    let dir = tempfile::tempdir().unwrap();
    let section = "plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes";
    for (setting, named) in [
        (
            "privileged_without_host_devices = \"yes\"",
            "privileged_without_host_devices",
        ),
        ("pod_annotations = [1]", "pod_annotations"),
        ("base_runtime_spec = 7", "base_runtime_spec"),
        ("options = \"none\"", "options"),
        ("options.BinaryName = true", "options.BinaryName"),
        ("options.SystemdCgroup = \"true\"", "options.SystemdCgroup"),
    ] {
        let text =
            format!("version = 3\n[{section}.bad]\nruntime_path = \"/bin/true\"\n{setting}\n");
        let path = write(dir.path(), "config.toml", &text);
        let imported = containerd::import(&path).unwrap();
        let table = HandlerTable::look(imported, &[], &BTreeMap::new()).unwrap();
        match &table.handlers()["bad"].state {
            HandlerState::Broken { reason } => assert!(reason.contains(named), "{reason}"),
            HandlerState::Usable { .. } => panic!("{setting} is passed over"),
        }
    }
    let text = "[crio.runtime.runtimes.bad]\nprivileged_without_host_devices = 1\n";
    let path = write(dir.path(), "crio.conf", text);
    let imported = crio::import(&path).unwrap();
    assert_eq!(imported.handlers[0].unreadable.len(), 1);
    let path = write(
        dir.path(),
        "crio.conf",
        "[crio.runtime.runtimes]\nbad = true\n",
    );
    assert_eq!(wrong(&crio::import(&path).unwrap()), "it must be a table");
}

/// One handler as both containerd's file and berth's own define it.
fn both(containerd: &str, own: &str) -> [(Definition, Vec<String>); 2] {
    let dir = tempfile::tempdir().unwrap();
    let section = "plugins.\"io.containerd.cri.v1.runtime\".containerd.runtimes.kata";
    let text = format!("version = 3\n[{section}]\n{containerd}")
        .replace("[options]", &format!("[{section}.options]"));
    let theirs = containerd::import(&write(dir.path(), "containerd.toml", &text)).unwrap();
    let text = format!("[handlers.kata]\n{own}");
    let ours = own::import(&write(dir.path(), "own.toml", &text), false).unwrap();
    [theirs, ours].map(|imported| {
        let messages = imported
            .warnings
            .iter()
            .map(|w| w.message.clone())
            .collect();
        let found = imported
            .handlers
            .into_iter()
            .find(|handler| handler.name == "kata");
        let mut definition = found.expect("the handler");
        definition.origin = Origin::built_in();
        // They name lines.
        for setting in &mut definition.unreadable {
            *setting = setting.split(" (").next().unwrap_or_default().to_owned();
        }
        (definition, messages)
    })
}

/// What a handler is does not depend on whose form it is written in.
#[test]
fn containerds_form_and_our_own_behave_alike() {
    let kata = "runtime_type = \"io.containerd.kata.v2\"\n";
    let shim = "kind = \"shim\"\nbinary = \"containerd-shim-kata-v2\"\n";
    let cases = [
        ("", ""),
        (
            "runtime_path = \"/opt/kata/bin/containerd-shim-kata-v2\"\n",
            "binary = \"/opt/kata/bin/containerd-shim-kata-v2\"\n",
        ),
        (
            "[options]\nConfigPath = \"/etc/k.toml\"\n",
            "config = \"/etc/k.toml\"\n",
        ),
        (
            "[options]\nTypeUrl = \"io.example.options\"\nConfigPath = \"/etc/k.toml\"\n",
            "config = \"/etc/k.toml\"\nconfig_type = \"io.example.options\"\n",
        ),
        (
            "privileged_without_host_devices = true\n",
            "privileged_without_host_devices = true\n",
        ),
        (
            "privileged_without_host_devices = false\n",
            "privileged_without_host_devices = false\n",
        ),
        (
            "privileged_without_host_devices_all_devices_allowed = true\n",
            "privileged_without_host_devices_all_devices_allowed = true\n",
        ),
        (
            "privileged_without_host_devices = false\nprivileged_without_host_devices_all_devices_allowed = true\n",
            "privileged_without_host_devices = false\nprivileged_without_host_devices_all_devices_allowed = true\n",
        ),
        (
            "pod_annotations = [\"io.katacontainers.*\"]\ncontainer_annotations = [\"a.b/*\"]\n",
            "pod_annotations = [\"io.katacontainers.*\"]\ncontainer_annotations = [\"a.b/*\"]\n",
        ),
        (
            "snapshotter = \"overlayfs\"\n",
            "snapshotter = \"overlayfs\"\n",
        ),
        (
            "snapshotter = \"devmapper\"\n",
            "snapshotter = \"devmapper\"\n",
        ),
        (
            "sandboxer = \"podsandbox\"\n",
            "sandboxer = \"podsandbox\"\n",
        ),
        ("sandboxer = \"shim\"\n", "sandboxer = \"shim\"\n"),
        (
            "base_runtime_spec = \"/etc/base.json\"\n",
            "base_runtime_spec = \"/etc/base.json\"\n",
        ),
        (
            "cni_conf_dir = \"/etc/cni/kata\"\n",
            "cni_conf_dir = \"/etc/cni/kata\"\n",
        ),
    ];
    for (theirs, ours) in cases {
        let ours = if ours.starts_with("binary") {
            format!("kind = \"shim\"\n{ours}")
        } else {
            format!("{shim}{ours}")
        };
        let [theirs, ours] = both(&format!("{kata}{theirs}"), &ours);
        assert_eq!(theirs, ours);
        assert!(theirs.0.runtime.is_vm(), "{theirs:?}");
    }
}

#[test]
fn virtual_machines_get_no_devices_of_the_host_unless_asked_for() {
    let devices = |own: &str| {
        let dir = tempfile::tempdir().unwrap();
        let path = write(dir.path(), "own.toml", &format!("[handlers.kata]\n{own}"));
        let handler = own::import(&path, false).unwrap().handlers.remove(0);
        (
            handler.privileged_without_host_devices,
            handler.all_devices_allowed,
            handler.unreadable.len(),
        )
    };
    let all = "privileged_without_host_devices_all_devices_allowed = true\n";
    for (own, wanted) in [
        (
            "binary = \"containerd-shim-kata-v2\"\n".to_owned(),
            (true, false, 0),
        ),
        (
            "binary = \"/x/containerd-shim-kata-qemu-v2\"\n".to_owned(),
            (true, false, 0),
        ),
        (
            "binary = \"containerd-shim-runc-v2\"\n".to_owned(),
            (false, false, 0),
        ),
        (
            "binary = \"containerd-shim-other-v2\"\nvm = true\n".to_owned(),
            (true, false, 0),
        ),
        (
            "binary = \"containerd-shim-kata-v2\"\nvm = false\n".to_owned(),
            (false, false, 0),
        ),
        ("binary = \"runc\"\n".to_owned(), (false, false, 0)),
        (
            "binary = \"containerd-shim-kata-v2\"\nprivileged_without_host_devices = false\n"
                .to_owned(),
            (false, false, 0),
        ),
        (
            format!("binary = \"containerd-shim-kata-v2\"\n{all}"),
            (true, true, 0),
        ),
        // As containerd: one without the other is a mistake.
        (format!("binary = \"runc\"\n{all}"), (false, true, 1)),
    ] {
        assert_eq!(devices(&own), wanted, "{own}");
    }
}
