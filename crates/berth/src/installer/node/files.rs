//! What is on the node beside the runtime's configuration: handlers' own files, and berth's shim.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context as _, bail, ensure};
use berth_installer::entry::{self, Entries, Place as EntryPlace};
use berth_installer::wanted::Handler;

use super::{Config, Installer};
use crate::installer::apply::{Ground, made};

impl Installer {
    /// The handlers with the paths of their files as no link of others' leads there, and why some can't be registered: files that
    /// are missing, or not in root's hands, and settings that have no effect here.
    pub(super) fn fit(
        &self,
        handlers: &[Handler],
        is_crio: bool,
    ) -> (Vec<Handler>, BTreeMap<String, String>) {
        let mut unfit = BTreeMap::new();
        let mut found = Vec::new();
        for handler in handlers {
            let without = handler.without_crio().filter(|_| is_crio);
            match without.map_or_else(|| self.located(handler), Err) {
                Ok(located) => found.push(located),
                Err(problem) => {
                    unfit.insert(handler.name.clone(), problem);
                    found.push(handler.clone());
                }
            }
        }
        (found, unfit)
    }

    fn located(&self, handler: &Handler) -> Result<Handler, String> {
        let locate = |path: &str, is_program| -> Result<String, String> {
            let found = self.config.host.check_roots(Path::new(path), is_program)?;
            let text = found
                .to_str()
                .filter(|text| !text.chars().any(char::is_control));
            let text = text
                .ok_or_else(|| format!("{path} leads to a path that a configuration can't name"))?;
            Ok(text.to_owned())
        };
        let mut located = handler.clone();
        located.binary = locate(&handler.binary, true)?;
        if let Some(shim) = handler.shim.as_deref().filter(|shim| shim.starts_with('/')) {
            located.shim = Some(locate(shim, true)?);
        }
        if let Some(config) = &handler.config {
            located.config = Some(locate(config, false)?);
        }
        Ok(located)
    }

    /// Whether the installer's folder on the node is root's alone to write: root runs what is in it.
    pub(super) fn check_dir(&self) -> anyhow::Result<()> {
        let Config { host, dir, .. } = &self.config;
        for folder in [dir.clone(), dir.join("bin"), dir.join("handlers")] {
            let checked = host.check_folder(&folder).map_err(anyhow::Error::msg);
            checked.context(
                "the installer's folder on the node can't be used: name another with --host-dir",
            )?;
        }
        Ok(())
    }

    /// Puts berth's shim, and what it reads, on the node.
    pub(super) fn put_shim(
        &self,
        handlers: &[Handler],
        words: EntryPlace<'_>,
        entries: &Entries,
    ) -> anyhow::Result<()> {
        let Config { host, dir, .. } = &self.config;
        let mut needed = false;
        for handler in handlers {
            // An entry that stays under its pods has its file.
            let wanted = entry::entry(handler, words);
            let Some(text) = entry::shim_config(handler, words)
                .filter(|_| entries.get(&handler.name) == Some(&wanted))
            else {
                continue;
            };
            needed = true;
            let path = words.shim_config(&handler.name, &text);
            let path = Path::new(&path);
            if host.read_text(path)?.as_deref() != Some(&text) {
                made::write(host, dir, &below(dir, path)?, text.as_bytes(), 0o644)?;
            }
        }
        if !needed {
            return Ok(());
        }
        let own = std::env::current_exe().context("cannot tell where this program is")?;
        let bytes =
            std::fs::read(&own).with_context(|| format!("cannot read {}", own.display()))?;
        let path = words.shim();
        let path = Path::new(&path);
        let there = host.resolve(path).and_then(std::fs::read);
        if there.is_ok_and(|there| there == bytes) {
            return Ok(());
        }
        // Shims that run keep the program that they were started from.
        made::write(host, dir, &below(dir, path)?, &bytes, 0o755)
    }

    /// Removes files of berth's shim that no entry names any more.
    pub(super) fn prune_shim(&self, ground: &Ground, entries: &Entries) -> anyhow::Result<()> {
        let Config { host, dir, .. } = &self.config;
        if ground.names_below(&dir.to_string_lossy()) {
            return Ok(());
        }
        let named: BTreeSet<&Path> = entries
            .values()
            .filter_map(entry::config_path)
            .map(Path::new)
            .collect();
        for name in made::names(host, dir)? {
            if name.starts_with("handlers/") && !named.contains(dir.join(&name).as_path()) {
                made::take(host, dir, &name)?;
            }
        }
        Ok(())
    }

    /// Takes from the node what berth's shim was, when nothing names it and no shim runs.
    ///
    /// # Errors
    /// When something does.
    pub(super) fn take_shim(&self, ground: &Ground) -> anyhow::Result<()> {
        let Config { host, dir, .. } = &self.config;
        let names = made::names(host, dir)?;
        if !names.is_empty() {
            ensure!(
                !ground.names_below(&dir.to_string_lossy()),
                "{} of the node stays: the runtime's configuration names files in it, in entries that are not the installer's: remove these",
                dir.display()
            );
            if let Some(pid) = running_below(dir)? {
                bail!(
                    "{} of the node stays: process {pid} is a shim of it that still runs",
                    dir.display()
                );
            }
        }
        for name in names {
            made::take(host, dir, &name)?;
        }
        for folder in ["handlers", "bin", "backup"].map(|name| dir.join(name)) {
            host.remove_folder(&folder);
        }
        host.remove_folder(dir);
        Ok(())
    }
}

fn below(dir: &Path, path: &Path) -> anyhow::Result<String> {
    let name = path.strip_prefix(dir).ok().and_then(Path::to_str);
    Ok(name
        .context("a file is not in the installer's folder")?
        .to_owned())
}

/// A process whose program is in a folder of the node.
fn running_below(dir: &Path) -> anyhow::Result<Option<String>> {
    let processes = std::fs::read_dir("/proc").context("cannot tell which shims run")?;
    for process in processes {
        let process = process.context("cannot tell which shims run")?;
        let name = process.file_name().to_string_lossy().into_owned();
        if !name.bytes().all(|byte| byte.is_ascii_digit()) {
            continue;
        }
        // Kernel threads and processes that have ended have none.
        let program = std::fs::read_link(process.path().join("exe"));
        if program.is_ok_and(|program| program.starts_with(dir)) {
            return Ok(Some(name));
        }
    }
    Ok(None)
}
