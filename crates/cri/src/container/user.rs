//! Whom a container runs as: numbers and names from the CRI and the image, looked up in the
//! image's /etc/passwd and /etc/group.

use std::path::Path;

use berth_cri_api::v1::{ContainerConfig, SupplementalGroupsPolicy};
use berth_image::ImageConfig;
use berth_oci::User;

use crate::error::CriError;
use crate::inside;

/// The longest passwd or group file that an image may have, in bytes.
const FILE_LIMIT: u64 = 1 << 20;
/// The longest line in them.
const LINE_LIMIT: usize = 64 << 10;

/// One line of passwd.
struct Passwd {
    name: String,
    uid: u32,
    gid: u32,
}

/// One line of group.
struct Group {
    name: String,
    gid: u32,
    members: Vec<String>,
}

pub(super) fn resolve(
    rootfs: &Path,
    config: &ContainerConfig,
    image: &ImageConfig,
) -> Result<User, CriError> {
    let passwd = read(rootfs, "etc/passwd", parse_passwd)?;
    let groups = read(rootfs, "etc/group", parse_group)?;
    pick(&passwd, &groups, config, image)
}

fn pick(
    passwd: &[Passwd],
    groups: &[Group],
    config: &ContainerConfig,
    image: &ImageConfig,
) -> Result<User, CriError> {
    let security = config
        .linux
        .as_ref()
        .and_then(|linux| linux.security_context.clone())
        .unwrap_or_default();
    let run_as_group = match &security.run_as_group {
        Some(group) => Some(number("run_as_group", group.value)?),
        None => None,
    };
    // The CRI's user wins over the image's, and takes none of its group.
    let (user, group) = if let Some(user) = &security.run_as_user {
        (number("run_as_user", user.value)?.to_string(), None)
    } else if !security.run_as_username.is_empty() {
        (security.run_as_username.clone(), None)
    } else {
        if run_as_group.is_some() {
            return Err(CriError::Invalid(
                "run_as_group needs run_as_user or run_as_username".to_owned(),
            ));
        }
        match image.user.split_once(':') {
            Some((user, group)) => (user.to_owned(), Some(group.to_owned())),
            None => (image.user.clone(), None),
        }
    };

    let entry = if let Ok(uid) = user.parse::<u32>() {
        passwd.iter().find(|entry| entry.uid == uid).map_or(
            Passwd {
                name: String::new(),
                uid,
                gid: 0,
            },
            |entry| Passwd {
                name: entry.name.clone(),
                ..*entry
            },
        )
    } else if user.is_empty() {
        Passwd {
            name: "root".to_owned(),
            uid: 0,
            gid: 0,
        }
    } else {
        let entry = passwd
            .iter()
            .find(|entry| entry.name == user)
            .ok_or_else(|| {
                CriError::Invalid(format!("user {user:?} is not in the image's /etc/passwd"))
            })?;
        Passwd {
            name: entry.name.clone(),
            ..*entry
        }
    };
    let gid = match (run_as_group, group) {
        (Some(gid), _) => gid,
        (None, Some(group)) => match group.parse() {
            Ok(gid) => gid,
            Err(_) => groups
                .iter()
                .find(|entry| entry.name == group)
                .map(|entry| entry.gid)
                .ok_or_else(|| {
                    CriError::Invalid(format!("group {group:?} is not in the image's /etc/group"))
                })?,
        },
        (None, None) => entry.gid,
    };

    let mut additional_gids = vec![gid];
    if security.supplemental_groups_policy() == SupplementalGroupsPolicy::Merge
        && !entry.name.is_empty()
    {
        let member = |group: &&Group| group.members.contains(&entry.name);
        additional_gids.extend(groups.iter().filter(member).map(|group| group.gid));
    }
    for group in &security.supplemental_groups {
        additional_gids.push(number("supplemental_groups", *group)?);
    }
    let mut seen = std::collections::BTreeSet::new();
    additional_gids.retain(|gid| seen.insert(*gid));
    Ok(User {
        uid: entry.uid,
        gid,
        additional_gids,
    })
}

fn number(what: &str, value: i64) -> Result<u32, CriError> {
    u32::try_from(value)
        .map_err(|_| CriError::Invalid(format!("{what} {value} is no user or group id")))
}

/// The lines of a file of the image. Without the file there are none; one that can't be used is an error, for who may
/// do what would follow from half of it.
fn read<T>(rootfs: &Path, file: &str, parse: fn(&str) -> Option<T>) -> Result<Vec<T>, CriError> {
    let unusable =
        |why: &str| CriError::Invalid(format!("the image's /{file} can't be used: {why}"));
    let content = inside::read_file(rootfs, Path::new(file), FILE_LIMIT)
        .map_err(|error| unusable(&error.to_string()))?
        .unwrap_or_default();
    let text = String::from_utf8_lossy(&content);
    if text.lines().any(|line| line.len() > LINE_LIMIT) {
        return Err(unusable(&format!(
            "it has a line of more than {LINE_LIMIT} bytes"
        )));
    }
    Ok(text.lines().filter_map(parse).collect())
}

fn parse_passwd(line: &str) -> Option<Passwd> {
    let mut fields = line.split(':');
    let name = fields.next()?.to_owned();
    let uid = fields.nth(1)?.parse().ok()?;
    let gid = fields.next()?.parse().ok()?;
    Some(Passwd { name, uid, gid })
}

fn parse_group(line: &str) -> Option<Group> {
    let mut fields = line.split(':');
    let name = fields.next()?.to_owned();
    let gid = fields.nth(1)?.parse().ok()?;
    let members = fields
        .next()
        .unwrap_or_default()
        .split(',')
        .filter(|member| !member.is_empty())
        .map(str::to_owned)
        .collect();
    Some(Group { name, gid, members })
}

#[cfg(test)]
mod tests {
    use super::*;
    use berth_cri_api::v1::{Int64Value, LinuxContainerConfig, LinuxContainerSecurityContext};

    fn tables() -> (Vec<Passwd>, Vec<Group>) {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nwww:x:33:34::/:/bin/sh\nbroken\n";
        let group = "root:x:0:\nwww:x:34:\nextra:x:500:www,other\nfiles:x:600:\n";
        (
            passwd.lines().filter_map(parse_passwd).collect(),
            group.lines().filter_map(parse_group).collect(),
        )
    }

    fn resolve(
        image_user: &str,
        security: LinuxContainerSecurityContext,
    ) -> Result<(u32, u32, Vec<u32>), String> {
        let (passwd, groups) = tables();
        let config = ContainerConfig {
            linux: Some(LinuxContainerConfig {
                security_context: Some(security),
                ..Default::default()
            }),
            ..Default::default()
        };
        let image = ImageConfig {
            user: image_user.to_owned(),
            ..Default::default()
        };
        pick(&passwd, &groups, &config, &image)
            .map(|user| (user.uid, user.gid, user.additional_gids))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn users_of_image_and_config() {
        let none = LinuxContainerSecurityContext::default;
        let id = |value| Some(Int64Value { value });
        assert_eq!(resolve("", none()).unwrap(), (0, 0, vec![0]));
        assert_eq!(resolve("www", none()).unwrap(), (33, 34, vec![34, 500]));
        assert_eq!(resolve("33", none()).unwrap(), (33, 34, vec![34, 500]));
        assert_eq!(resolve("77", none()).unwrap(), (77, 0, vec![0]));
        assert_eq!(
            resolve("www:files", none()).unwrap(),
            (33, 600, vec![600, 500])
        );
        assert_eq!(resolve("www:7", none()).unwrap(), (33, 7, vec![7, 500]));
        assert!(resolve("nobody", none()).unwrap_err().contains("nobody"));
        assert!(
            resolve("www:nogroup", none())
                .unwrap_err()
                .contains("nogroup")
        );
        let by_id = LinuxContainerSecurityContext {
            run_as_user: id(1234),
            run_as_group: id(9),
            supplemental_groups: vec![5, 9],
            ..none()
        };
        assert_eq!(resolve("www:files", by_id).unwrap(), (1234, 9, vec![9, 5]));
        let by_name = LinuxContainerSecurityContext {
            run_as_username: "www".to_owned(),
            ..none()
        };
        assert_eq!(resolve("", by_name).unwrap(), (33, 34, vec![34, 500]));
        let strict = LinuxContainerSecurityContext {
            run_as_username: "www".to_owned(),
            supplemental_groups: vec![5],
            supplemental_groups_policy: SupplementalGroupsPolicy::Strict.into(),
            ..none()
        };
        assert_eq!(resolve("", strict).unwrap(), (33, 34, vec![34, 5]));
        let group_only = LinuxContainerSecurityContext {
            run_as_group: id(9),
            ..none()
        };
        assert!(resolve("", group_only).is_err());
    }

    #[test]
    fn files_of_an_image_that_cannot_be_used_are_refused() {
        let root = tempfile::tempdir().unwrap();
        let etc = root.path().join("etc");
        std::fs::create_dir(&etc).unwrap();
        let resolve = || {
            let found = super::resolve(
                root.path(),
                &ContainerConfig::default(),
                &ImageConfig::default(),
            );
            found
                .map(|user| user.uid)
                .map_err(|error| error.to_string())
        };
        assert_eq!(resolve(), Ok(0));
        for file in ["passwd", "group"] {
            let path = etc.join(file);
            let refused = |why: &str| {
                let error = resolve().unwrap_err();
                assert!(
                    error.contains(&format!("/etc/{file}")) && error.contains(why),
                    "{error}"
                );
                std::fs::remove_file(&path).unwrap();
            };
            // Nobody writes into it: whoever opens it for reading waits for ever.
            nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
            refused("not a regular file");
            std::fs::write(&path, "a:x:1:1\n".repeat(200_000)).unwrap();
            refused("more than");
            std::fs::write(&path, format!("a:x:1:{}\n", "m,".repeat(40_000))).unwrap();
            refused("a line");
            std::os::unix::fs::symlink(format!("/etc/{file}"), &path).unwrap();
            refused("symbolic links");
        }
    }
}
