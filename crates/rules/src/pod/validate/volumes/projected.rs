//! Projected volumes: several sources in one directory.

use std::collections::BTreeSet;

use berth_api::field::{FieldError, FieldPath};
use k8s_openapi::api::core::v1::{KeyToPath, ProjectedVolumeSource, VolumeProjection};

use super::source::{downward_file, keys, mode};
use crate::pod::validate::{mounts, one_of, required, text};
use berth_core::meta;

const TEN_MINUTES: i64 = 600;
const LONGEST: i64 = 1 << 32;

pub(super) fn validate(projected: &ProjectedVolumeSource, at: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    mode(
        &mut errors,
        &at.child("defaultMode"),
        projected.default_mode,
    );
    let mut paths = BTreeSet::new();
    for (i, source) in projected.sources.iter().flatten().enumerate() {
        let own = at.child("sources").index(i);
        errors.extend(one(source, &own, at, &mut paths));
    }
    errors
}

/// Each path once in the whole volume; the reference reports a second at the volume.
fn claim<'s>(
    paths: &mut BTreeSet<&'s str>,
    path: &'s str,
    errors: &mut Vec<FieldError>,
    volume: &FieldPath,
) {
    if !path.is_empty() && !paths.insert(path) {
        errors.push(FieldError::invalid(
            volume,
            path,
            "conflicting duplicate paths",
        ));
    }
}

/// A Secret's or ConfigMap's name and the items that are projected of it.
type NamedItems<'s> = (&'s str, Option<&'s [KeyToPath]>);

fn one<'s>(
    source: &'s VolumeProjection,
    at: &FieldPath,
    volume: &FieldPath,
    paths: &mut BTreeSet<&'s str>,
) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut count = 0;
    let maps: [(&str, Option<NamedItems<'s>>); 2] = [
        (
            "secret",
            source
                .secret
                .as_ref()
                .map(|s| (s.name.as_str(), s.items.as_deref())),
        ),
        (
            "configMap",
            source
                .config_map
                .as_ref()
                .map(|c| (c.name.as_str(), c.items.as_deref())),
        ),
    ];
    for (field, map) in maps {
        let Some((name, items)) = map else {
            continue;
        };
        count += 1;
        let at = at.child(field);
        required(&mut errors, &at.child("name"), name);
        errors.extend(keys(items, &at.child("items")));
        for item in items.unwrap_or_default() {
            claim(paths, &item.path, &mut errors, volume);
        }
    }
    if let Some(downward) = &source.downward_api {
        count += 1;
        for file in downward.items.iter().flatten() {
            errors.extend(downward_file(file, &at.child("downwardAPI")));
            claim(paths, &file.path, &mut errors, volume);
        }
    }
    if let Some(token) = &source.service_account_token {
        count += 1;
        let seconds_at = at.child("serviceAccountToken.expirationSeconds");
        let seconds = token.expiration_seconds.unwrap_or(0);
        if seconds < TEN_MINUTES {
            errors.push(FieldError::invalid(
                &seconds_at,
                seconds,
                "may not specify a duration less than 10 minutes",
            ));
        }
        if seconds > LONGEST {
            errors.push(FieldError::invalid(
                &seconds_at,
                seconds,
                "may not specify a duration larger than 2^32 seconds",
            ));
        }
        let path_at = volume.child("path");
        if token.path.is_empty() {
            errors.push(FieldError::required(&path_at, ""));
        } else {
            errors.extend(mounts::not_reserved(&token.path, &path_at));
        }
    }
    if let Some(bundle) = &source.cluster_trust_bundle {
        count += 1;
        let at = at.child("clusterTrustBundle");
        match (&bundle.name, &bundle.signer_name) {
            (Some(_), Some(_)) => errors.push(FieldError::invalid(
                &at,
                bundle,
                "only one of name and signerName may be used",
            )),
            (None, None) => errors.push(FieldError::required(
                &at,
                "either name or signerName must be specified",
            )),
            (Some(name), None) => {
                required(&mut errors, &at.child("name"), name);
                if bundle.label_selector.is_some() {
                    errors.push(FieldError::invalid(
                        &at.child("labelSelector"),
                        &bundle.label_selector,
                        "labelSelector must be unset if name is specified",
                    ));
                }
            }
            (None, Some(signer)) => {
                required(&mut errors, &at.child("signerName"), signer);
                if let Some(selector) = &bundle.label_selector {
                    errors.extend(meta::validate_label_selector(
                        selector,
                        &at.child("labelSelector"),
                    ));
                }
            }
        }
        required(&mut errors, &at.child("path"), &bundle.path);
        errors.extend(mounts::not_reserved(&bundle.path, &at.child("path")));
        claim(paths, &bundle.path, &mut errors, volume);
    }
    if let Some(certificate) = &source.pod_certificate {
        count += 1;
        let at = at.child("podCertificate");
        required(
            &mut errors,
            &at.child("signerName"),
            &certificate.signer_name,
        );
        one_of(
            &mut errors,
            &at.child("keyType"),
            &certificate.key_type,
            &[
                "RSA3072",
                "RSA4096",
                "ECDSAP256",
                "ECDSAP384",
                "ECDSAP521",
                "ED25519",
            ],
        );
        let files = [
            (
                "credentialBundlePath",
                text(&certificate.credential_bundle_path),
            ),
            ("keyPath", text(&certificate.key_path)),
            (
                "certificateChainPath",
                text(&certificate.certificate_chain_path),
            ),
        ];
        for (field, path) in files.iter().filter(|(_, p)| !p.is_empty()) {
            errors.extend(mounts::not_reserved(path, &at.child(field)));
            claim(paths, path, &mut errors, volume);
        }
        if files.iter().all(|(_, p)| p.is_empty()) {
            errors.push(FieldError::required(
                &at,
                "specify at least one of credentialBundlePath, keyPath, and certificateChainPath",
            ));
        }
    }
    if count > 1 {
        errors.push(FieldError::forbidden(
            at,
            "may not specify more than 1 volume type per source",
        ));
    }
    errors
}
