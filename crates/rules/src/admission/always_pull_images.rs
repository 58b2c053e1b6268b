//! The AlwaysPullImages plugin: an image that a node has already is of use only to who may pull it.

use std::collections::BTreeMap;

use berth_api::field::{FieldError, FieldPath};
use k8s_openapi::api::core::v1::{Pod, PodSpec};

const ALWAYS: &str = "Always";

/// A container or volume with an image.
struct Image<'p> {
    at: FieldPath,
    /// List and name, which say what it replaces.
    key: (&'static str, &'p str),
    reference: &'p str,
    policy: &'p str,
}

fn text(field: &Option<String>) -> &str {
    field.as_deref().unwrap_or_default()
}

fn images(spec: &PodSpec) -> Vec<Image<'_>> {
    let at = FieldPath::new("spec");
    let mut all = Vec::new();
    for (list, containers) in [
        (
            "initContainers",
            spec.init_containers.as_deref().unwrap_or_default(),
        ),
        ("containers", spec.containers.as_slice()),
    ] {
        for (i, c) in containers.iter().enumerate() {
            all.push(Image {
                at: at.child(list).index(i).child("imagePullPolicy"),
                key: (list, &c.name),
                reference: text(&c.image),
                policy: text(&c.image_pull_policy),
            });
        }
    }
    for (i, c) in spec.ephemeral_containers.iter().flatten().enumerate() {
        let list = "ephemeralContainers";
        all.push(Image {
            at: at.child(list).index(i).child("imagePullPolicy"),
            key: (list, &c.name),
            reference: text(&c.image),
            policy: text(&c.image_pull_policy),
        });
    }
    for (i, v) in spec.volumes.iter().flatten().enumerate() {
        if let Some(image) = &v.image {
            all.push(Image {
                at: at.child("volumes").index(i).child("image.pullPolicy"),
                key: ("volumes", &v.name),
                reference: text(&image.reference),
                policy: text(&image.pull_policy),
            });
        }
    }
    all
}

/// The image that each container and volume of a pod had.
fn before(old: Option<&Pod>) -> BTreeMap<(&'static str, &str), &str> {
    old.and_then(|o| o.spec.as_ref())
        .map(|spec| {
            images(spec)
                .into_iter()
                .map(|i| (i.key, i.reference))
                .collect()
        })
        .unwrap_or_default()
}

/// Sets the policy `Always` for every image of a new pod, or for every one that is new in `old`'s place.
pub fn admit(pod: &mut Pod, old: Option<&Pod>) {
    let before = before(old);
    let Some(spec) = pod.spec.as_mut() else {
        return;
    };
    let always = |list: &'static str, name: &str, image: &str, policy: &mut Option<String>| {
        if before.get(&(list, name)) != Some(&image) {
            *policy = Some(ALWAYS.to_owned());
        }
    };
    for c in spec.init_containers.iter_mut().flatten() {
        always(
            "initContainers",
            &c.name,
            text(&c.image),
            &mut c.image_pull_policy,
        );
    }
    for c in &mut spec.containers {
        always(
            "containers",
            &c.name,
            text(&c.image),
            &mut c.image_pull_policy,
        );
    }
    for c in spec.ephemeral_containers.iter_mut().flatten() {
        always(
            "ephemeralContainers",
            &c.name,
            text(&c.image),
            &mut c.image_pull_policy,
        );
    }
    for v in spec.volumes.iter_mut().flatten() {
        if let Some(image) = v.image.as_mut() {
            always(
                "volumes",
                &v.name,
                text(&image.reference),
                &mut image.pull_policy,
            );
        }
    }
}

/// What still has another policy after all plugins that change pods; each is a reason of a 403.
#[must_use]
pub fn check(pod: &Pod, old: Option<&Pod>) -> Vec<FieldError> {
    let before = before(old);
    pod.spec
        .iter()
        .flat_map(images)
        .filter(|i| i.policy != ALWAYS && before.get(&i.key) != Some(&i.reference))
        .map(|i| FieldError::not_supported(&i.at, i.policy, &[ALWAYS]))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn pod(spec: Value) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": spec})).unwrap()
    }

    fn all_kinds() -> Value {
        json!({
            "initContainers": [{"name": "i", "image": "a", "imagePullPolicy": "Never"}],
            "containers": [{"name": "c", "image": "b", "imagePullPolicy": "IfNotPresent"}],
            "ephemeralContainers": [{"name": "e", "image": "c"}],
            "volumes": [{"name": "v", "image": {"reference": "d", "pullPolicy": "Never"}}, {"name": "w", "emptyDir": {}}],
        })
    }

    #[test]
    fn every_image_is_always_pulled() {
        let mut created = pod(all_kinds());
        let wrong: Vec<String> = check(&created, None)
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(
            wrong,
            [
                "spec.initContainers[0].imagePullPolicy: Unsupported value: \"Never\": supported values: \"Always\"",
                "spec.containers[0].imagePullPolicy: Unsupported value: \"IfNotPresent\": supported values: \"Always\"",
                "spec.ephemeralContainers[0].imagePullPolicy: Unsupported value: \"\": supported values: \"Always\"",
                "spec.volumes[0].image.pullPolicy: Unsupported value: \"Never\": supported values: \"Always\"",
            ]
        );
        admit(&mut created, None);
        assert_eq!(check(&created, None), []);
        let spec = serde_json::to_value(created.spec).unwrap();
        for at in [
            "/initContainers/0/imagePullPolicy",
            "/containers/0/imagePullPolicy",
            "/ephemeralContainers/0/imagePullPolicy",
            "/volumes/0/image/pullPolicy",
        ] {
            assert_eq!(spec.pointer(at), Some(&json!("Always")), "{at}");
        }
    }

    #[test]
    fn what_was_there_before_may_stay() {
        let old = pod(all_kinds());
        let mut same = old.clone();
        admit(&mut same, Some(&old));
        assert_eq!(same, old);
        assert_eq!(check(&same, Some(&old)), []);

        let mut changed = old.clone();
        changed.spec.as_mut().unwrap().containers[0].image = Some("other".to_owned());
        assert_eq!(check(&changed, Some(&old)).len(), 1);
        admit(&mut changed, Some(&old));
        let spec = changed.spec.unwrap();
        assert_eq!(
            spec.containers[0].image_pull_policy.as_deref(),
            Some("Always")
        );
        assert_eq!(
            spec.init_containers.unwrap()[0]
                .image_pull_policy
                .as_deref(),
            Some("Never")
        );
    }
}
