use std::collections::BTreeMap;

use super::*;

#[derive(Default)]
struct Disk(BTreeMap<PathBuf, String>);

impl Files for Disk {
    fn read(&self, path: &Path) -> Result<Option<String>, String> {
        Ok(self.0.get(path).cloned())
    }
    fn matching(&self, pattern: &Path) -> Result<Vec<PathBuf>, String> {
        let folder = pattern.parent();
        Ok(self
            .0
            .keys()
            .filter(|path| path.parent() == folder || *path == pattern)
            .cloned()
            .collect())
    }
}

fn disk(files: &[(&str, &str)]) -> Disk {
    Disk(
        files
            .iter()
            .map(|(path, text)| (PathBuf::from(path), (*text).to_owned()))
            .collect(),
    )
}

fn containerd(version: (u64, u64), main: &str) -> Runtime {
    Runtime {
        is_crio: false,
        version,
        main: main.into(),
        crio_dir: PathBuf::new(),
        kubelet: "v1.36.0".to_owned(),
    }
}

fn place(version: (u64, u64), main: &str, files: &[(&str, &str)]) -> (Form, String, How, Check) {
    let found = layout(&containerd(version, main), &disk(files)).unwrap();
    (
        found.form,
        found.file.display().to_string(),
        found.how,
        found.check,
    )
}

const MAIN: &str = "/etc/containerd/config.toml";
const V2: &str =
    "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\"]\nsandbox_image = \"pause\"\n";

#[test]
fn containerd_1_has_its_handlers_in_the_file_that_has_the_section() {
    let form = Form::Containerd(2);
    let lines = |file: &str, check| (form, file.to_owned(), How::Lines, check);
    assert_eq!(
        place((1, 6), MAIN, &[(MAIN, V2)]),
        lines(MAIN, Check::Appended)
    );
    // Its imports would do away with the rest of the section.
    let importing = format!("imports = [\"conf.d/*.toml\"]\n{V2}");
    let other = "/etc/containerd/conf.d/10-other.toml";
    assert_eq!(
        place(
            (1, 7),
            MAIN,
            &[
                (MAIN, &importing),
                (other, "version = 2\n[proxy_plugins.x]\n")
            ]
        ),
        lines(MAIN, Check::Appended)
    );
    // One that has done so is the one that counts.
    assert_eq!(
        place((1, 7), MAIN, &[(MAIN, &importing), (other, V2)]),
        lines(other, Check::Imported)
    );
    assert_eq!(
        place((1, 7), MAIN, &[(MAIN, "[plugins.cri]\n")]).0,
        Form::Containerd(1)
    );
    assert_eq!(
        place((1, 7), MAIN, &[]),
        (form, MAIN.to_owned(), How::Own, Check::Appended)
    );
}

#[test]
fn containerd_2_has_a_drop_in_where_it_reads_one() {
    let v3 = "version = 3\nimports = [\"/etc/containerd/conf.d/*.toml\"]\n";
    let drop_in = "/etc/containerd/conf.d/99-berth.toml".to_owned();
    let own = (
        Form::Containerd(3),
        drop_in.clone(),
        How::Own,
        Check::Imported,
    );
    assert_eq!(place((2, 1), MAIN, &[(MAIN, v3)]), own);
    assert_eq!(
        place(
            (2, 1),
            MAIN,
            &[(MAIN, "version = 3\nimports = ['conf.d/*.toml']\n")]
        ),
        own
    );
    assert_eq!(place((2, 2), MAIN, &[]), own);
    // The file's version is the drop-in's.
    assert_eq!(
        place((2, 1), MAIN, &[(MAIN, &v3.replace('3', "2"))]).0,
        Form::Containerd(2)
    );
    assert_eq!(
        place((2, 0), MAIN, &[]),
        (
            Form::Containerd(3),
            MAIN.to_owned(),
            How::Own,
            Check::Appended
        )
    );
    let lines = (
        Form::Containerd(3),
        MAIN.to_owned(),
        How::Lines,
        Check::Appended,
    );
    assert_eq!(place((2, 0), MAIN, &[(MAIN, "version = 3\n")]), lines);
    // A file alone, or folders by a pattern, are no place for one.
    for imports in ["/etc/x.toml", "/etc/*/y.toml", "/etc/*/*.toml"] {
        let text = format!("version = 3\nimports = [\"{imports}\"]\n");
        assert_eq!(place((2, 1), MAIN, &[(MAIN, &text)]), lines, "{imports}");
    }
    // Our own lines of an earlier time don't change that.
    let text = block::join("version = 3\n", "# handlers: \n");
    assert_eq!(place((2, 0), MAIN, &[(MAIN, &text)]), lines);
}

#[test]
fn k3s_and_rke2_by_folder_else_by_template() {
    for root in ["/var/lib/rancher/k3s", "/var/lib/rancher/rke2", "/data/k3s"] {
        let main = format!("{root}/agent/etc/containerd/config.toml");
        let folder = format!("{root}/agent/etc/containerd");
        let importing = format!("version = 3\nimports = [\"{folder}/config-v3.toml.d/*.toml\"]\n");
        let own = (
            Form::Containerd(3),
            format!("{folder}/config-v3.toml.d/99-berth.toml"),
            How::Own,
            Check::Imported,
        );
        assert_eq!(place((2, 2), &main, &[(&main, &importing)]), own);
        let template = |name: &str| format!("{folder}/{name}");
        let (old, new) = (
            template("config.toml.tmpl"),
            template("config-v3.toml.tmpl"),
        );
        assert_eq!(
            place((1, 7), &main, &[(&main, V2)]),
            (
                Form::Containerd(2),
                old.clone(),
                How::OwnTemplate,
                Check::Appended
            )
        );
        assert_eq!(
            place((2, 0), &main, &[(&main, "version = 3\n")]),
            (Form::Containerd(3), new, How::OwnTemplate, Check::Appended)
        );
        // 1.x imports, but lays nothing over.
        let importing = format!("version = 2\nimports = [\"{folder}/config.toml.d/*.toml\"]\n");
        assert_eq!(
            place((1, 7), &main, &[(&main, &importing)]).2,
            How::OwnTemplate
        );
        let theirs = place(
            (1, 7),
            &main,
            &[(&main, V2), (&old, "{{ template \"base\" . }}\n")],
        );
        assert_eq!(
            theirs,
            (
                Form::Containerd(2),
                old.clone(),
                How::Lines,
                Check::Appended
            )
        );
        let ours = format!("{}{BASE_TEMPLATE}", block::OWNER);
        assert_eq!(
            place((1, 7), &main, &[(&main, V2), (&old, &ours)]).2,
            How::OwnTemplate
        );
        // A template that an old k3s doesn't know would keep it from starting.
        let mut runtime = containerd((1, 6), &main);
        for (kubelet, knows) in [
            ("v1.24.16+k3s1", false),
            ("v1.24.17+k3s1", true),
            ("v1.27.4+rke2r1", false),
            ("v1.28.1+k3s1", true),
            ("v1.33.0+k3s1", true),
            ("", false),
        ] {
            runtime.kubelet = kubelet.to_owned();
            assert_eq!(
                layout(&runtime, &disk(&[(&main, V2)])).is_ok(),
                knows,
                "{kubelet}"
            );
        }
        let error = layout(&runtime, &disk(&[(&main, V2)]))
            .unwrap_err()
            .to_string();
        assert!(error.contains("is written anew at each start"), "{error}");
    }
}

#[test]
fn k0s_and_microk8s() {
    let main = "/etc/k0s/containerd.toml";
    let drop_in = "/etc/k0s/containerd.d/99-berth.toml".to_owned();
    let managed = "# k0s_managed=true\nversion = 2\nimports = [\"/run/k0s/containerd-cri.toml\"]\n";
    assert_eq!(
        place((1, 7), main, &[(main, managed)]),
        (Form::Containerd(2), drop_in.clone(), How::Own, Check::None)
    );
    assert_eq!(
        place((2, 1), main, &[(main, &managed.replace("= 2", "= 3"))]),
        (Form::Containerd(3), drop_in, How::Own, Check::Imported)
    );
    let taken_over = managed.replace("true", "false");
    assert_eq!(place((1, 7), main, &[(main, &taken_over)]).2, How::Lines);

    let main = "/var/snap/microk8s/7000/args/containerd.toml";
    let template = "/var/snap/microk8s/7000/args/containerd-template.toml".to_owned();
    assert_eq!(
        place((1, 7), main, &[(main, V2)]),
        (Form::Containerd(2), template, How::Lines, Check::Appended)
    );
}

#[test]
fn crio_has_a_drop_in() {
    let runtime = Runtime {
        is_crio: true,
        version: (1, 30),
        main: "/etc/crio/crio.conf".into(),
        crio_dir: "/etc/crio/crio.conf.d".into(),
        kubelet: String::new(),
    };
    let found = layout(&runtime, &disk(&[])).unwrap();
    assert_eq!(
        (found.form, found.file.to_str(), found.how),
        (
            Form::Crio,
            Some("/etc/crio/crio.conf.d/99-berth.conf"),
            How::Own
        )
    );
}

#[test]
fn what_is_not_understood_is_refused() {
    for (version, text, words) in [
        ((1, 5), V2, "containerd 1.5 is not supported"),
        ((1, 6), "x = [", "config.toml: "),
        ((1, 6), "version = 9", "version 9 is none of 1, 2, 3 and 4"),
        ((1, 6), "version = \"2\"", "none of 1, 2, 3 and 4"),
        (
            (2, 0),
            "version = 3\n# END handlers of berth installer\n",
            "one beginning and one end",
        ),
    ] {
        let error = layout(&containerd(version, MAIN), &disk(&[(MAIN, text)]))
            .unwrap_err()
            .to_string();
        assert!(error.contains(words), "{text}: {error}");
    }
}

#[test]
fn a_file_of_ours_is_no_file_of_the_administrators() {
    // Every look finds what the first one wrote.
    for version in [(1, 6), (1, 7), (2, 0), (2, 1), (2, 2)] {
        let ours = format!("{}version = 2\n# handlers: a\n", block::OWNER);
        let first = place(version, MAIN, &[]);
        assert_eq!(place(version, MAIN, &[(MAIN, &ours)]), first);
        assert_eq!(first.2, How::Own);
    }
    // What k3s makes of a template of ours begins like it.
    let main = "/var/lib/rancher/k3s/agent/etc/containerd/config.toml";
    let made = format!(
        "{}version = 2\n{}",
        block::OWNER,
        block::join("", "# handlers: \n")
    );
    assert_eq!(place((1, 7), main, &[(main, &made)]).2, How::OwnTemplate);
}

#[test]
fn messages_have_no_line_of_a_file() {
    let text = "a = 1\npassword = \"hunter2\n";
    let error = parse(Path::new(MAIN), text).unwrap_err().to_string();
    assert!(
        error.contains("config.toml: line 2: ") && !error.contains("hunter2"),
        "{error}"
    );
}
