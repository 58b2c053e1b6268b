//! A change of the runtime's configuration, which holds or is taken back.
//!
//! What containerd makes of a change is seen before anything in force is touched; after the restart the runtime has to answer and
//! to know the handlers, or else the files become what they were and it is started again.

pub(crate) mod made;
mod place;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use berth_installer::candidate;
use berth_installer::entry::{self, Entries, Form};
use berth_installer::layout::{self, Check, How, Layout, Runtime};
use toml::Table;
use tracing::{info, warn};

use super::host::{Host, Unended};
use super::runtime::{Cri, Process, Restart, check_kill_mode};
pub(crate) use place::Place;

/// How long a runtime may take until it answers again. k3s starts with it.
const ANSWER_LIMIT: Duration = Duration::from_secs(120);
const LOOK: Duration = Duration::from_millis(300);

/// What the node's configuration is without us.
#[derive(Clone, Debug)]
pub(crate) struct Ground {
    /// Where our entries go.
    pub(crate) layout: Layout,
    /// The main file's text without our lines.
    main: String,
    /// The files that it imports, without ours.
    others: Vec<PathBuf>,
    /// What containerd makes of that; none where it can't be asked.
    dump: Option<Table>,
    /// Handlers of others.
    pub(crate) foreign: BTreeSet<String>,
    /// Whether the default handler asks systemd for cgroups.
    pub(crate) systemd_cgroup: bool,
}

/// The tools.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tools<'a> {
    pub(crate) host: &'a Host,
    pub(crate) cri: &'a Cri,
    pub(crate) process: &'a Process,
    pub(crate) restart: &'a Restart,
    /// The installer's folder on the node.
    pub(crate) dir: &'a Path,
}

impl Ground {
    /// What it is read from: as long as this stays the same, so does the rest.
    pub(crate) fn inputs(tools: Tools<'_>, runtime: &Runtime) -> anyhow::Result<String> {
        let Tools { host, process, .. } = tools;
        let layout = layout::layout(runtime, host)?;
        let mut all = format!(
            "{runtime:?} {layout:?} {:?} {:?}",
            process.program,
            host.identity(&process.program)
        );
        let mut files = Self::files(host, runtime, &layout)?;
        files.push(runtime.main.clone());
        files.push(layout.file.clone());
        for file in files {
            all.push_str(&format!(
                "\n{}\n{}",
                file.display(),
                host.read_text(&file)?.unwrap_or_default()
            ));
        }
        Ok(all)
    }

    fn files(host: &Host, runtime: &Runtime, layout: &Layout) -> anyhow::Result<Vec<PathBuf>> {
        let files: &dyn layout::Files = host;
        let found = match host.read_text(&runtime.main)? {
            _ if runtime.is_crio => {
                let pattern = runtime.crio_dir.join("*.conf");
                files.matching(&pattern).map_err(anyhow::Error::msg)?
            }
            Some(text) if !layout::is_ours_whole(&runtime.main, &text) => {
                let (text, _) = berth_installer::block::split(&text)
                    .with_context(|| runtime.main.display().to_string())?;
                layout::imports(&runtime.main, &layout::parse(&runtime.main, &text)?, files)?
            }
            Some(_) | None if layout.check == Check::Imported => {
                let folder = layout.file.parent().unwrap_or(Path::new("/"));
                files
                    .matching(&folder.join("*.toml"))
                    .map_err(anyhow::Error::msg)?
            }
            Some(_) | None => Vec::new(),
        };
        Ok(found)
    }

    /// Reads the configuration, and asks containerd what it makes of it.
    ///
    /// # Errors
    /// When it can't be understood, by us or by containerd: then nothing is to be changed.
    pub(crate) async fn read(tools: Tools<'_>, runtime: &Runtime) -> anyhow::Result<Self> {
        let host = tools.host;
        let layout = layout::layout(runtime, host)?;
        let text = host.read_text(&runtime.main)?.unwrap_or_default();
        let is_ours = layout::is_ours_whole(&runtime.main, &text);
        let main = match (is_ours || text.is_empty(), layout.form) {
            (true, Form::Containerd(version)) => format!("version = {version}\n"),
            (true, Form::Crio) => String::new(),
            (false, _) => {
                berth_installer::block::split(&text)
                    .with_context(|| runtime.main.display().to_string())?
                    .0
            }
        };
        let mut others = Self::files(host, runtime, &layout)?;
        let mut ours = BTreeSet::new();
        for file in &others {
            let text = host.read_text(file)?.unwrap_or_default();
            if layout::is_ours_whole(file, &text)
                || (layout.how == How::Own && *file == layout.file)
            {
                ours.insert(file.clone());
            }
        }
        others.retain(|file| !ours.contains(file));
        let mut ground = Self {
            layout,
            main,
            others,
            dump: None,
            foreign: BTreeSet::new(),
            systemd_cgroup: false,
        };
        if ground.layout.form == Form::Crio {
            ground.foreign = crio_handlers(host, &runtime.main, &ground.others)?;
        } else {
            let dump = ground.dump(tools, None).await;
            let dump = dump.context("containerd cannot load the configuration that is there; nothing is changed before that is mended")?;
            ground.foreign = candidate::handlers(&dump).into_keys().collect();
            ground.systemd_cgroup = candidate::uses_systemd_cgroup(&dump);
            ground.dump = Some(dump);
        }
        Ok(ground)
    }

    /// What containerd makes of the configuration with these lines of ours, or with none.
    async fn dump(&self, tools: Tools<'_>, lines: Option<&str>) -> anyhow::Result<Table> {
        let Tools {
            host, process, dir, ..
        } = tools;
        let folder = dir.join("candidate");
        let (main_file, own_file) = (folder.join("config.toml"), folder.join("own.toml"));
        let mut others = self.others.clone();
        let mut main = self.main.clone();
        if let How::Lines = self.layout.how {
            // Files of others are read without our lines, whichever they are in.
            if let Some(at) = others.iter().position(|file| *file == self.layout.file) {
                let text = host.read_text(&self.layout.file)?.unwrap_or_default();
                let (owners, _) = berth_installer::block::split(&text)?;
                let text = lines.map_or(owners.clone(), |lines| {
                    berth_installer::block::join(&owners, lines)
                });
                host.write(&own_file, text.as_bytes(), 0o600)?;
                if let Some(slot) = others.get_mut(at) {
                    slot.clone_from(&own_file);
                }
            } else if let Some(lines) = lines {
                main = berth_installer::block::join(&main, lines);
            }
        } else if let Some(lines) = lines {
            match self.layout.check {
                Check::Imported => {
                    let text = self.layout_text(lines);
                    host.write(&own_file, text.as_bytes(), 0o600)?;
                    others.push(own_file.clone());
                }
                Check::Appended | Check::None => main = format!("{main}\n{lines}"),
            }
        }
        let text = candidate::with_imports(&main, &others).map_err(anyhow::Error::msg)?;
        host.write(&main_file, text.as_bytes(), 0o600)?;
        let words = [
            process.program.display().to_string(),
            "--config".into(),
            main_file.display().to_string(),
            "config".into(),
            "dump".into(),
        ];
        // k3s' containerd is k3s, which goes by the name by which it is called.
        let called = process.words.first().filter(|word| !word.is_empty());
        let told = host.run_as(&words, called.map(String::as_str)).await;
        for file in [&main_file, &own_file] {
            host.remove(file)?;
        }
        host.remove_folder(&folder);
        let told = told?;
        told.parse().map_err(|error: toml::de::Error| {
            anyhow::anyhow!(
                "`containerd config dump` printed no TOML: {}",
                error.message()
            )
        })
    }

    /// Whether entries of others name anything below a folder, so that it has to stay.
    pub(crate) fn names_below(&self, folder: &str) -> bool {
        let handlers = self.dump.as_ref().map(candidate::handlers);
        handlers
            .iter()
            .flat_map(Entries::values)
            .any(|table| entry::names_below(table, folder))
    }

    fn layout_text(&self, lines: &str) -> String {
        place::whole(&self.layout, lines)
    }

    /// The lines that tell these entries, of which containerd is known to make nothing else than what they say.
    ///
    /// # Errors
    /// When it can't load them, or something else would differ.
    pub(crate) async fn lines(
        &self,
        tools: Tools<'_>,
        entries: &Entries,
        before: &Entries,
    ) -> anyhow::Result<String> {
        let mut lines = entry::render(self.layout.form, entries, &Entries::new());
        lines
            .parse::<Table>()
            .context("what would be written is no TOML")?;
        let Some(without) = self
            .dump
            .as_ref()
            .filter(|_| self.layout.check != Check::None && !entries.is_empty())
        else {
            return Ok(lines);
        };
        let ours: BTreeSet<String> = entries.keys().chain(before.keys()).cloned().collect();
        let cannot =
            "containerd cannot load the configuration with the handlers; nothing was changed";
        let mut with = self.dump(tools, Some(&lines)).await.context(cannot)?;
        let lost = candidate::lost(without, &with);
        if !lost.is_empty() {
            // containerd 1.x has its own runc only where no file names a handler.
            lines = entry::render(self.layout.form, entries, &lost);
            with = self.dump(tools, Some(&lines)).await.context(cannot)?;
        }
        let different = candidate::differences(without, &with, &ours);
        ensure!(
            different.is_empty(),
            "with the handlers in {} more than the handlers would differ, so nothing was changed: {}",
            self.layout.file.display(),
            different.join("; ")
        );
        let known = candidate::handlers(&with);
        for name in entries.keys() {
            ensure!(
                known.contains_key(name),
                "containerd would not see handler {name:?} in {}, so nothing was changed: another file that is read later has the whole section of the CRI plugin",
                self.layout.file.display()
            );
        }
        Ok(lines)
    }
}

/// Handlers that CRI-O's files name, other than ours.
fn crio_handlers(host: &Host, main: &Path, others: &[PathBuf]) -> anyhow::Result<BTreeSet<String>> {
    let mut names: BTreeSet<String> = ["crun", "runc"].map(str::to_owned).into();
    for file in std::iter::once(main).chain(others.iter().map(PathBuf::as_path)) {
        let Some(text) = host.read_text(file)? else {
            continue;
        };
        let root = layout::parse(file, &text)?;
        names.extend(
            entry::at_path(&root, &Form::Crio.path())
                .into_iter()
                .flat_map(Table::keys)
                .cloned(),
        );
    }
    Ok(names)
}

/// Nothing was tried, and it is looked at again.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Untried(String);

impl Untried {
    fn changed(file: &Path) -> Self {
        Self(format!(
            "{} of the node was changed a moment ago; it is looked at again",
            file.display()
        ))
    }
}

/// Refuses to take handlers from pods that use them.
async fn check_unused(cri: &Cri, names: &BTreeSet<String>) -> anyhow::Result<()> {
    if names.is_empty() {
        return Ok(());
    }
    let sandboxes = cri.sandboxes().await?;
    let used = sandboxes
        .into_iter()
        .find(|sandbox| sandbox.is_ready && names.contains(&sandbox.handler));
    if let Some(sandbox) = used {
        return Err(Untried(format!(
            "handler {:?} can't change yet: a pod on this node uses it: {}",
            sandbox.handler, sandbox.pod
        ))
        .into());
    }
    Ok(())
}

/// Refuses a restart that would end containers.
async fn check_restart(tools: Tools<'_>) -> anyhow::Result<()> {
    let Some(unit) = tools.process.restarted_unit(tools.restart) else {
        return Ok(());
    };
    let words = ["systemctl", "show", "-p", "KillMode", unit].map(str::to_owned);
    let shown = tools.host.run_ok(&words).await?;
    check_kill_mode(unit, &shown).map_err(|error| Untried(format!("{error:#}")).into())
}

/// Makes these entries the node's, if they are not, and answers whether the runtime was started again.
///
/// # Errors
/// When they can't be; then what there was is in force again, or the error says that it is not. [`Untried`] when nothing was done.
pub(crate) async fn apply(
    tools: Tools<'_>,
    ground: &Ground,
    place: &Place,
    entries: &Entries,
) -> anyhow::Result<bool> {
    let Tools { host, cri, .. } = tools;
    let lines = if entries.is_empty() {
        None
    } else {
        Some(ground.lines(tools, entries, &place.entries).await?)
    };
    let wanted = Place::with(&ground.layout, lines.as_deref());
    let said = cri.said().await?;
    let gone: BTreeSet<String> = place
        .entries
        .keys()
        .filter(|name| !entries.contains_key(*name))
        .cloned()
        .collect();
    // Those that go, or become another.
    let changed: BTreeSet<String> = place
        .entries
        .iter()
        .filter(|(name, table)| entries.get(*name) != Some(table))
        .map(|(name, _)| name.clone())
        .collect();
    if wanted == place.texts && place.is_confirmed() && said.knows(entries.keys()) {
        return Ok(false);
    }
    if wanted.is_empty() && place.texts.is_empty() {
        if place.is_noted() {
            Place::confirm(tools, &ground.layout, None)?;
        }
        return Ok(false);
    }
    if let Some(file) = place.unsettled(host)? {
        return Err(Untried::changed(&file).into());
    }
    if ground.layout.form != Form::Crio {
        check_restart(tools).await?;
    }
    check_unused(cri, &changed).await?;
    place.back_up(tools, &ground.layout)?;
    info!(file = %ground.layout.file.display(), handlers = ?entries.keys().collect::<Vec<_>>(), "writing the node's handlers");
    if let Err(error) = place.write(host, &wanted) {
        if !error.is::<Untried>() {
            Place::write_back(host, &wanted, &place.texts)
                .with_context(|| format!("{error:#}; and what there was can't be written again"))?;
        }
        return Err(error);
    }
    let mut confirmed = start_again(tools, entries, &gone).await;
    if confirmed.is_ok() {
        confirmed = check_unused(cri, &changed).await;
    }
    let Err(error) = confirmed else {
        Place::confirm(tools, &ground.layout, lines.as_deref())?;
        return Ok(true);
    };
    warn!(
        error = format!("{error:#}"),
        "the runtime does not go on with the handlers: taking them back"
    );
    let before = before(cri, place).await;
    Place::write_back(host, &wanted, &before)
        .context("and what there was can't be written again")?;
    let back = start_again(tools, &Entries::new(), &BTreeSet::new()).await;
    if before.is_empty() && back.is_ok() {
        Place::confirm(tools, &ground.layout, None)?;
    }
    match back {
        Ok(()) => bail!("{error:#}; what there was before is in force again"),
        Err(again) => bail!("{error:#}; the files are what they were before, and still: {again:#}"),
    }
}

/// What a change that failed goes back to: what there was if the runtime was seen to run with it, else what it was seen to run with
/// last. Where it never was, nothing of ours, unless pods use it, or that can't be told.
async fn before(cri: &Cri, place: &Place) -> place::Texts {
    if place.is_confirmed() {
        return place.texts.clone();
    }
    if let Some(noted) = place.noted() {
        return noted;
    }
    let names = place.entries.keys().cloned().collect();
    match check_unused(cri, &names).await {
        Ok(()) => place::Texts::new(),
        Err(_) => place.texts.clone(),
    }
}

/// Starts the runtime again, until it knows these handlers and these no more. CRI-O, too: after SIGHUP it lists the new handlers, and
/// goes on to refuse pods with "failed to find runtime handler" (seen with 1.36.3: what makes sandboxes has another copy of them).
async fn start_again(
    tools: Tools<'_>,
    entries: &Entries,
    gone: &BTreeSet<String>,
) -> anyhow::Result<()> {
    let words = tools.process.restart(tools.restart)?;
    info!(
        command = words.join(" "),
        "starting the runtime again; pods go on"
    );
    match tools.host.run_ok(&words).await {
        Ok(_) => {}
        // k3s is ready later. Nothing is known yet, but that it is another process when it is.
        Err(error) if error.is::<Unended>() => wait_another(tools).await?,
        Err(error) => return Err(error.context("the runtime can't be started again")),
    }
    wait(tools.cri, entries, gone, ANSWER_LIMIT).await
}

/// Waits until another process listens at the socket.
async fn wait_another(tools: Tools<'_>) -> anyhow::Result<()> {
    let end = tokio::time::Instant::now() + ANSWER_LIMIT;
    loop {
        let found = tools.cri.process().await;
        if found.is_ok_and(|process| process.pid != tools.process.pid) {
            return Ok(());
        }
        ensure!(
            tokio::time::Instant::now() < end,
            "the runtime was not started again within {} s: process {} still listens",
            ANSWER_LIMIT.as_secs(),
            tools.process.pid
        );
        tokio::time::sleep(LOOK).await;
    }
}

async fn wait(
    cri: &Cri,
    entries: &Entries,
    gone: &BTreeSet<String>,
    limit: Duration,
) -> anyhow::Result<()> {
    let end = tokio::time::Instant::now() + limit;
    loop {
        let problem = match cri.said().await {
            Ok(said) => match said.handlers {
                None => return Ok(()),
                Some(known) => {
                    let missing = entries.keys().find(|name| !known.contains(*name));
                    let left = gone.iter().find(|name| known.contains(*name));
                    match (missing, left) {
                        (None, None) => return Ok(()),
                        (Some(name), _) => format!("it does not know handler {name:?}"),
                        (None, Some(name)) => format!("it still knows handler {name:?}"),
                    }
                }
            },
            Err(error) => format!("{error:#}"),
        };
        ensure!(
            tokio::time::Instant::now() < end,
            "the runtime did not come back as it should within {} s: {problem}",
            limit.as_secs()
        );
        tokio::time::sleep(LOOK).await;
    }
}
