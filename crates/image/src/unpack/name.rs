//! The names that entries have.

/// The parts of a path; none when one of them is `..` or holds a NUL.
pub(super) fn clean(path: &[u8]) -> Result<Vec<&[u8]>, &'static str> {
    let mut parts = Vec::new();
    for part in path.split(|&b| b == b'/') {
        match part {
            b"" | b"." => {}
            b".." => return Err("its name has \"..\" in it and could lead out of the image"),
            _ if part.contains(&0) => return Err("its name has a NUL in it"),
            _ => parts.push(part),
        }
    }
    Ok(parts)
}

/// What a last part says about whiteouts.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Meaning<'a> {
    /// An ordinary name.
    Plain,
    /// `.wh.NAME`: NAME is not there any more.
    Whiteout(&'a [u8]),
    /// `.wh..wh..opq`: nothing that was in the directory is there any more.
    Opaque,
    /// Another `.wh..wh.` name: a note of aufs to itself.
    Aufs,
}

pub(super) fn meaning(last: &[u8]) -> Result<Meaning<'_>, &'static str> {
    let Some(name) = last.strip_prefix(b".wh.") else {
        return Ok(Meaning::Plain);
    };
    match name {
        b".wh..opq" => Ok(Meaning::Opaque),
        b"" | b"." | b".." => Err("it is a whiteout of no possible name"),
        _ if name.starts_with(b".wh.") => Ok(Meaning::Aufs),
        _ => Ok(Meaning::Whiteout(name)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        assert_eq!(clean(b"/a//./b/").unwrap(), [b"a", b"b"]);
        assert!(clean(b"./").unwrap().is_empty());
        for bad in [b"..".as_slice(), b"a/../b", b"../../etc/passwd", b"a\0b"] {
            assert!(clean(bad).is_err());
        }
        assert_eq!(meaning(b".wh.x"), Ok(Meaning::Whiteout(b"x")));
        assert_eq!(meaning(b".wh..wh..opq"), Ok(Meaning::Opaque));
        assert_eq!(meaning(b".wh..wh.plnk"), Ok(Meaning::Aufs));
        assert!(
            meaning(b".wh..").is_err() && meaning(b".wh.").is_err() && meaning(b".wh...").is_err()
        );
        assert_eq!(meaning(b".whx"), Ok(Meaning::Plain));
    }
}
