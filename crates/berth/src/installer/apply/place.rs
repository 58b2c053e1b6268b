//! The files that have something of ours, as they are, and as they are to be.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use berth_installer::block;
use berth_installer::entry::{self, Entries, Form};
use berth_installer::layout::{BASE_TEMPLATE, How, Layout};
use serde::{Deserialize, Serialize};

use super::{Tools, Untried, made};
use crate::installer::host::Host;

/// What the installer notes in its folder on the node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Note {
    /// Where entries were put last.
    file: PathBuf,
    /// Whether that file is ours as a whole.
    is_own: bool,
    /// The lines with which the runtime was seen to run.
    lines: String,
}

impl Note {
    fn path(dir: &Path) -> PathBuf {
        dir.join("state.json")
    }

    fn write(&self, tools: Tools<'_>) -> anyhow::Result<()> {
        let text = serde_json::to_string_pretty(self)?;
        tools
            .host
            .write(&Self::path(tools.dir), text.as_bytes(), 0o600)
    }

    fn read(host: &Host, dir: &Path) -> anyhow::Result<Option<Self>> {
        let path = Self::path(dir);
        let Some(text) = host.read_text(&path)? else {
            return Ok(None);
        };
        let note = serde_json::from_str(&text);
        note.map(Some).with_context(|| format!("{} of the node can't be read: remove it when no file has handlers of the installer's", path.display()))
    }
}

/// What a file has of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ours {
    /// It is ours as a whole.
    Whole(String),
    /// Our lines in a file of others.
    Lines(String),
}

/// What is ours by file.
pub(crate) type Texts = BTreeMap<PathBuf, Ours>;

/// The files.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// The files in which there is something of ours.
    pub(crate) texts: Texts,
    /// Our entries.
    pub(crate) entries: Entries,
    /// The other text of files that are not ours.
    owners: BTreeMap<PathBuf, String>,
    note: Option<Note>,
    lines: String,
}

impl Place {
    /// Looks where entries are to be, and where they were put before.
    ///
    /// # Errors
    /// When there is a file in the way, or ours were changed so that they can't be read.
    pub(crate) fn look(host: &Host, dir: &Path, layout: &Layout) -> anyhow::Result<Self> {
        let note = Note::read(host, dir)?;
        let mut place = Self {
            texts: Texts::new(),
            entries: Entries::new(),
            owners: BTreeMap::new(),
            note: note.clone(),
            lines: String::new(),
        };
        if let Some(note) = &note
            && note.file != layout.file
        {
            place.look_at(host, &note.file, note.is_own)?;
        }
        place.look_at(host, &layout.file, layout.how != How::Lines)?;
        // What was written and is gone may still be in force, and pods under it: it is registered as far as the plan goes.
        if let Some(note) = note.filter(|note| !note.lines.is_empty())
            && place.texts.is_empty()
        {
            place.entries = entry::read(&note.lines)
                .map_err(|error| anyhow::anyhow!("{}: {error}", Note::path(dir).display()))?;
        }
        Ok(place)
    }

    /// Refuses entries of ours that have become another's: what is in force then is not ours to change, and not to forget either.
    ///
    /// # Errors
    /// When the configuration names our handlers, and not in our lines.
    pub(crate) fn check_theirs(&self, foreign: &BTreeSet<String>) -> anyhow::Result<()> {
        let Some(note) = &self.note else {
            return Ok(());
        };
        if note.lines.is_empty() || !self.texts.is_empty() {
            return Ok(());
        }
        let names: Vec<&str> = self
            .entries
            .keys()
            .filter(|name| foreign.contains(*name))
            .map(String::as_str)
            .collect();
        ensure!(
            names.is_empty(),
            "{} of the node was written anew by somebody without the installer's comments, and names its handlers {}: remove these entries \
             from it, and they are written again; until then nothing is changed",
            note.file.display(),
            names.join(", ")
        );
        Ok(())
    }

    fn look_at(&mut self, host: &Host, file: &Path, is_own: bool) -> anyhow::Result<()> {
        let Some(text) = host.read_text(file)? else {
            return Ok(());
        };
        let broken = |what: String| {
            anyhow::anyhow!(
                "{} of the node: {what}: remove it, or mend it",
                file.display()
            )
        };
        let (lines, ours) = if is_own {
            ensure!(
                text.starts_with(block::OWNER),
                "{} of the node is in the way: it is not the installer's",
                file.display()
            );
            (Some(text.clone()), Ours::Whole(text))
        } else {
            let (owners, lines) = block::split(&text).map_err(|error| broken(error.to_string()))?;
            self.owners.insert(file.to_owned(), owners);
            let lines = lines.map(str::to_owned);
            (lines.clone(), Ours::Lines(lines.unwrap_or_default()))
        };
        if let Some(lines) = lines {
            self.entries.extend(entry::read(&lines).map_err(broken)?);
            self.lines = lines;
            self.texts.insert(file.to_owned(), ours);
        }
        Ok(())
    }

    /// The files as they are to be with these lines; without any, none has something of ours.
    pub(crate) fn with(layout: &Layout, lines: Option<&str>) -> Texts {
        let Some(lines) = lines else {
            return Texts::new();
        };
        let ours = match layout.how {
            How::Own | How::OwnTemplate => Ours::Whole(whole(layout, lines)),
            How::Lines => Ours::Lines(lines.to_owned()),
        };
        [(layout.file.clone(), ours)].into()
    }

    /// Whether the runtime was seen to run with what there is.
    pub(crate) fn is_confirmed(&self) -> bool {
        self.note
            .as_ref()
            .map_or(self.texts.is_empty(), |note| note.lines == self.lines)
    }

    /// What the runtime was seen to run with last, if it was.
    pub(crate) fn noted(&self) -> Option<Texts> {
        let note = self.note.as_ref().filter(|note| !note.lines.is_empty())?;
        let ours = if note.is_own {
            Ours::Whole(note.lines.clone())
        } else {
            Ours::Lines(note.lines.clone())
        };
        Some([(note.file.clone(), ours)].into())
    }

    /// Whether anything was ever noted.
    pub(crate) fn is_noted(&self) -> bool {
        self.note.is_some()
    }

    /// Whether nothing of the installer's was ever put on the node, or all of it was taken away.
    ///
    /// # Errors
    /// When its notes can't be read.
    pub(crate) fn is_clean(host: &Host, dir: &Path) -> anyhow::Result<bool> {
        Ok(Note::read(host, dir)?.is_none() && made::names(host, dir)?.is_empty())
    }

    /// A file of others' that is being written, or was since it was read: ours must not be put into half of it.
    pub(crate) fn unsettled(&self, host: &Host) -> anyhow::Result<Option<PathBuf>> {
        for (file, owners) in &self.owners {
            let text = host.read_text(file)?.unwrap_or_default();
            let is_same = block::split(&text).is_ok_and(|(found, _)| found == *owners);
            if !is_same || !host.is_settled(file) {
                return Ok(Some(file.clone()));
            }
        }
        Ok(None)
    }

    /// Makes the files these, which are what they were when they were looked at.
    ///
    /// # Errors
    /// [`Untried`] when one has been changed since.
    pub(crate) fn write(&self, host: &Host, wanted: &Texts) -> anyhow::Result<()> {
        let files: BTreeSet<&PathBuf> = wanted.keys().chain(self.texts.keys()).collect();
        for file in files {
            let (was, to) = (self.texts.get(file), wanted.get(file));
            let text = host.read_text(file)?;
            let is_same = match was.or(to) {
                Some(Ours::Whole(_)) => match was {
                    Some(Ours::Whole(was)) => text.as_ref() == Some(was),
                    Some(Ours::Lines(_)) | None => text.is_none(),
                },
                Some(Ours::Lines(_)) | None => {
                    let text = text.clone().unwrap_or_default();
                    let (owners, lines) = block::split(&text)?;
                    let lines = lines.map(|lines| Ours::Lines(lines.to_owned()));
                    lines.as_ref() == was && self.owners.get(file) == Some(&owners)
                }
            };
            if !is_same {
                return Err(Untried::changed(file).into());
            }
            put(host, file, text, to)?;
        }
        Ok(())
    }

    /// Makes the files these again, after a change to others failed. What others have written meanwhile stays.
    ///
    /// # Errors
    /// When one can't be written, or has become another's.
    pub(crate) fn write_back(host: &Host, now: &Texts, before: &Texts) -> anyhow::Result<()> {
        let files: BTreeSet<&PathBuf> = now.keys().chain(before.keys()).collect();
        for file in files {
            let text = host.read_text(file)?;
            let to = before.get(file);
            let is_whole = matches!(to.or(now.get(file)), Some(Ours::Whole(_)));
            if is_whole
                && text
                    .as_ref()
                    .is_some_and(|text| !text.starts_with(block::OWNER))
            {
                bail!("{} of the node has become another's", file.display());
            }
            match (is_whole, to) {
                (true, None) => host.remove(file)?,
                (true, Some(_)) => put(host, file, None, to)?,
                (false, _) => put(host, file, text, to)?,
            }
        }
        Ok(())
    }

    /// Keeps what others have in a file before ours is put into it for the first time, and notes that something is.
    pub(crate) fn back_up(&self, tools: Tools<'_>, layout: &Layout) -> anyhow::Result<()> {
        for (file, owners) in &self.owners {
            if !self.texts.contains_key(file) {
                let name = file.display().to_string().replace('/', "_");
                let name = format!("backup/{name}");
                made::write(tools.host, tools.dir, &name, owners.as_bytes(), 0o600)?;
            }
        }
        if self.note.is_none() {
            let note = Note {
                file: layout.file.clone(),
                is_own: layout.how != How::Lines,
                lines: String::new(),
            };
            note.write(tools)?;
        }
        Ok(())
    }

    /// Notes with what the runtime was seen to run.
    pub(crate) fn confirm(
        tools: Tools<'_>,
        layout: &Layout,
        lines: Option<&str>,
    ) -> anyhow::Result<()> {
        let (host, dir) = (tools.host, tools.dir);
        let Some(lines) = lines else {
            for name in made::names(host, dir)? {
                if name.starts_with("backup/") {
                    made::take(host, dir, &name)?;
                }
            }
            host.remove_folder(&dir.join("backup"));
            return host.remove(&Note::path(dir));
        };
        let is_own = layout.how != How::Lines;
        // What others write beside our lines is none of our business.
        let lines = if is_own {
            whole(layout, lines)
        } else {
            lines.to_owned()
        };
        let note = Note {
            file: layout.file.clone(),
            is_own,
            lines,
        };
        note.write(tools)
    }
}

/// Puts ours into a file that has this text, or takes it out.
fn put(host: &Host, file: &Path, text: Option<String>, to: Option<&Ours>) -> anyhow::Result<()> {
    let whole = match (to, text) {
        (Some(Ours::Whole(whole)), _) => whole.clone(),
        (Some(Ours::Lines(lines)), text) => {
            let text = text.unwrap_or_default();
            let (owners, _) = block::split(&text)?;
            block::join(&owners, lines)
        }
        (None, Some(text)) if text.starts_with(block::OWNER) => return host.remove(file),
        (None, Some(text)) => block::split(&text)?.0,
        (None, None) => return Ok(()),
    };
    // Other settings in it may be secrets; who may read an old one stays as it was.
    host.write(file, whole.as_bytes(), 0o644)
}

/// The text of a file that is ours as a whole.
pub(crate) fn whole(layout: &Layout, lines: &str) -> String {
    let owner = block::OWNER;
    match (layout.how, layout.form) {
        // What the template makes has our lines in it, which have to be found again there.
        (How::OwnTemplate, _) => format!("{owner}{BASE_TEMPLATE}{}", block::join("", lines)),
        (How::Own | How::Lines, Form::Containerd(version)) => {
            format!("{owner}version = {version}\n{lines}")
        }
        (How::Own | How::Lines, Form::Crio) => format!("{owner}{lines}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use berth_installer::layout::Check;

    const MAIN: &str = "/etc/c.toml";
    const DIR: &str = "/opt/berth";

    fn layout(how: How) -> Layout {
        Layout {
            form: Form::Containerd(2),
            file: MAIN.into(),
            how,
            check: Check::Appended,
        }
    }

    fn entries(name: &str) -> Entries {
        let table = [(
            "runtime_type".to_owned(),
            toml::Value::String("/opt/berth/bin/x".to_owned()),
        )];
        [(name.to_owned(), table.into_iter().collect())].into()
    }

    fn lines(name: &str) -> String {
        entry::render(Form::Containerd(2), &entries(name), &Entries::new())
    }

    fn note(host: &Host, how: How, lines: &str) {
        let is_own = how != How::Lines;
        let lines = if is_own {
            whole(&layout(how), lines)
        } else {
            lines.to_owned()
        };
        let note = Note {
            file: MAIN.into(),
            is_own,
            lines,
        };
        let text = serde_json::to_string(&note).unwrap();
        host.write(&Note::path(Path::new(DIR)), text.as_bytes(), 0o600)
            .unwrap();
    }

    fn look(host: &Host, how: How) -> anyhow::Result<Place> {
        Place::look(host, Path::new(DIR), &layout(how))
    }

    fn text(host: &Host) -> Option<String> {
        host.read_text(Path::new(MAIN)).unwrap()
    }

    #[test]
    fn lines_that_lost_their_comments_are_not_forgotten() {
        let root = tempfile::tempdir().unwrap();
        let host = Host::new(root.path());
        host.write(Path::new(MAIN), lines("a").as_bytes(), 0o644)
            .unwrap();
        note(&host, How::Lines, &lines("a"));
        let place = look(&host, How::Lines).unwrap();
        assert_eq!(place.entries, entries("a"));
        let error = place
            .check_theirs(&BTreeSet::from(["a".to_owned()]))
            .unwrap_err();
        assert!(
            error.to_string().contains("names its handlers a"),
            "{error}"
        );
        // Where they are gone altogether, they are registered as long as pods use them, and written again.
        place.check_theirs(&BTreeSet::new()).unwrap();
        assert!(!place.is_confirmed());
    }

    #[test]
    fn a_file_that_was_changed_since_is_not_written() {
        let root = tempfile::tempdir().unwrap();
        let host = Host::new(root.path());
        for (how, first, wanted) in [
            (How::Lines, Some("a = 1\n"), Ours::Lines(lines("a"))),
            (
                How::Own,
                None,
                Ours::Whole(whole(&layout(How::Own), &lines("a"))),
            ),
        ] {
            let reset = || match first {
                Some(first) => host
                    .write(Path::new(MAIN), first.as_bytes(), 0o644)
                    .unwrap(),
                None => host.remove(Path::new(MAIN)).unwrap(),
            };
            reset();
            let place = look(&host, how).unwrap();
            let wanted: Texts = [(PathBuf::from(MAIN), wanted)].into();
            host.write(Path::new(MAIN), b"b = 2\n", 0o644).unwrap();
            assert!(place.write(&host, &wanted).unwrap_err().is::<Untried>());
            assert_eq!(text(&host).as_deref(), Some("b = 2\n"));
            reset();
            place.write(&host, &wanted).unwrap();
            // Taken back, it is what it was, with what others have written meanwhile.
            if let Some(written) = text(&host).filter(|_| how == How::Lines) {
                host.write(
                    Path::new(MAIN),
                    format!("{written}c = 3\n").as_bytes(),
                    0o644,
                )
                .unwrap();
            }
            Place::write_back(&host, &wanted, &place.texts).unwrap();
            assert_eq!(text(&host), first.map(|first| format!("{first}c = 3\n")));
        }
    }

    #[test]
    fn what_was_seen_to_run_last_is_what_a_failed_change_goes_back_to() {
        let root = tempfile::tempdir().unwrap();
        let host = Host::new(root.path());
        note(&host, How::Own, &lines("a"));
        let other = whole(&layout(How::Own), &lines("b"));
        host.write(Path::new(MAIN), other.as_bytes(), 0o644)
            .unwrap();
        let place = look(&host, How::Own).unwrap();
        assert!(!place.is_confirmed());
        Place::write_back(&host, &place.texts, &place.noted().unwrap()).unwrap();
        let place = look(&host, How::Own).unwrap();
        assert!(place.is_confirmed());
        assert_eq!(place.entries, entries("a"));
    }
}
