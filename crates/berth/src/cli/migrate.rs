//! `berth migrate`: RuntimeClasses of v1alpha1 and v1beta1 become v1.

mod cluster;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, ensure};
use berth_check::migrate::{self, Migration};

use super::check;

#[derive(Debug, clap::Args)]
pub(super) struct MigrateArgs {
    /// Manifests: YAML or JSON files, directories of them, or - for standard input (the result goes to standard output)
    files: Vec<PathBuf>,
    /// Only say what would change
    #[arg(long)]
    dry_run: bool,
    /// Migrate the classes of a cluster: without --yes this is a dry run that the server checks
    #[arg(long, value_name = "FILE", conflicts_with = "files")]
    kubeconfig: Option<PathBuf>,
    /// Carry the migration of the cluster out
    #[arg(long, requires = "kubeconfig", conflicts_with = "dry_run")]
    yes: bool,
    /// Where the cluster's classes are saved before anything changes
    #[arg(
        long,
        value_name = "FILE",
        default_value = "runtimeclasses-before-migration.json",
        requires = "kubeconfig"
    )]
    backup: PathBuf,
}

impl MigrateArgs {
    /// Exit code 1 when something was refused; then nothing of its file was changed.
    pub(super) async fn run(self) -> anyhow::Result<ExitCode> {
        if let Some(path) = &self.kubeconfig {
            return cluster::run(path, &self.backup, self.yes).await;
        }
        ensure!(
            !self.files.is_empty(),
            "nothing to migrate: give manifests, or --kubeconfig"
        );
        let mut refused = false;
        for file in &self.files {
            for (name, text) in check::read(file)? {
                let result = migrate::file(&name, &text)?;
                refused |= !result.refused.is_empty();
                say(&name, &result, self.dry_run);
                if file == Path::new("-") {
                    let text = if result.refused.is_empty() {
                        &result.text
                    } else {
                        &text
                    };
                    write!(std::io::stdout().lock(), "{text}")
                        .context("cannot write to standard output")?;
                } else if result.is_change() && !self.dry_run {
                    replace(Path::new(&name), &text, &result.text)?;
                }
            }
        }
        Ok(if refused {
            ExitCode::FAILURE
        } else {
            ExitCode::SUCCESS
        })
    }
}

/// Tells on standard error what became of a file.
fn say(name: &str, result: &Migration, dry_run: bool) {
    for refusal in &result.refused {
        eprintln!("berth: {refusal}");
    }
    for note in &result.notes {
        eprintln!("berth: {note}");
    }
    if !result.refused.is_empty() {
        eprintln!("berth: {name}: left as it is, because of what was refused");
        return;
    }
    if result.migrated.is_empty() {
        eprintln!("berth: {name}: nothing to migrate");
    }
    for migrated in &result.migrated {
        let verb = if dry_run { "would migrate" } else { "migrated" };
        eprintln!(
            "berth: {name}: {verb} {} from {}",
            migrated.object, migrated.from
        );
    }
}

/// Keeps the original beside the file as `NAME.orig` (or `.orig.1`, ...), then puts the new text in its place.
fn replace(path: &Path, old: &str, new: &str) -> anyhow::Result<()> {
    let mut keep = PathBuf::from(format!("{}.orig", path.display()));
    let mut number = 0;
    loop {
        let made = std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(&keep);
        match made {
            Ok(mut file) => {
                file.write_all(old.as_bytes())
                    .and_then(|()| file.sync_all())
                    .with_context(|| format!("cannot keep the original as {}", keep.display()))?;
                break;
            }
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                number += 1;
                keep = PathBuf::from(format!("{}.orig.{number}", path.display()));
            }
            Err(error) => {
                return Err(error)
                    .with_context(|| format!("cannot keep the original as {}", keep.display()));
            }
        }
    }
    // Written beside and renamed, so that a full disk loses neither.
    let draft = PathBuf::from(format!("{}.new", path.display()));
    std::fs::write(&draft, new).with_context(|| format!("cannot write {}", draft.display()))?;
    let permissions = std::fs::metadata(path).map(|m| m.permissions());
    if let Ok(permissions) = permissions {
        std::fs::set_permissions(&draft, permissions)
            .with_context(|| format!("cannot set the mode of {}", draft.display()))?;
    }
    std::fs::rename(&draft, path).with_context(|| format!("cannot replace {}", path.display()))?;
    eprintln!(
        "berth: {}: the original is kept as {}",
        path.display(),
        keep.display()
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn originals_are_kept_and_never_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.yaml");
        std::fs::write(&path, "one").unwrap();
        replace(&path, "one", "two").unwrap();
        replace(&path, "two", "three").unwrap();
        let read = |name: &str| std::fs::read_to_string(dir.path().join(name)).unwrap();
        assert_eq!(
            (
                read("a.yaml").as_str(),
                read("a.yaml.orig").as_str(),
                read("a.yaml.orig.1").as_str()
            ),
            ("three", "one", "two")
        );
    }
}
