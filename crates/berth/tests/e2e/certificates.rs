//! Certificates by CertificateSigningRequests, with stock kubectl.

use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
use serde_json::json;

use crate::cluster::{Cluster, words};

/// A request in PEM and its key.
fn request(name: &str, organization: &str) -> (String, String) {
    let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::OrganizationName, organization);
    params.distinguished_name.push(DnType::CommonName, name);
    let key = KeyPair::generate().unwrap();
    let request = params.serialize_request(&key).unwrap();
    (request.pem().unwrap(), key.serialize_pem())
}

fn asks(name: &str, pem: &str, signer: &str, usages: &[&str]) -> String {
    json!({"apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest", "metadata": {"name": name},
        "spec": {"request": STANDARD.encode(pem), "usages": usages, "signerName": signer, "expirationSeconds": 600}})
    .to_string()
}

#[test]
fn a_user_gets_a_certificate_that_the_server_takes() {
    let cluster = Cluster::start();
    let (pem, key) = request("jane", "devs");
    let signer = "kubernetes.io/kube-apiserver-client";
    let made = cluster.try_apply(&asks("jane", &pem, signer, &["client auth"]));
    assert!(made.status.success(), "{}", words(&made));
    assert!(!words(&made).contains("Warning"), "{}", words(&made));
    cluster.kube(&["certificate", "approve", "jane"]);
    cluster.kube(&[
        "wait",
        "csr/jane",
        "--for=jsonpath={.status.certificate}",
        "--timeout=30s",
    ]);
    let issued = cluster.json(&["csr", "jane"]);
    let certificate = STANDARD
        .decode(issued["status"]["certificate"].as_str().unwrap())
        .unwrap();
    let (cert_file, key_file) = (
        cluster.data().join("jane.crt"),
        cluster.data().join("jane.key"),
    );
    std::fs::write(&cert_file, certificate).unwrap();
    std::fs::write(&key_file, key).unwrap();
    let who = Command::new("kubectl")
        .env("KUBECONFIG", "/dev/null")
        .args(["--server", &format!("https://127.0.0.1:{}", cluster.port())])
        .arg("--certificate-authority")
        .arg(cluster.data().join("server/pki/ca.crt"))
        .arg("--client-certificate")
        .arg(&cert_file)
        .arg("--client-key")
        .arg(&key_file)
        .args(["auth", "whoami", "-o", "jsonpath={.status.userInfo}"])
        .output()
        .unwrap();
    let said = words(&who);
    assert!(
        said.contains("\"jane\"") && said.contains("\"devs\""),
        "{said}"
    );
}

#[test]
fn a_node_is_not_approved_for_what_is_not_its_own() {
    let cluster = Cluster::start();
    // The administrator may create nodeclient; the name is free.
    let client = "kubernetes.io/kube-apiserver-client-kubelet";
    let usages = ["digital signature", "client auth"];
    let (pem, _) = request("system:node:other", "system:nodes");
    cluster.apply(&asks("new", &pem, client, &usages));
    cluster.kube(&[
        "wait",
        "csr/new",
        "--for=jsonpath={.status.certificate}",
        "--timeout=30s",
    ]);
    // Now it is taken.
    cluster.apply(r#"{"apiVersion": "v1", "kind": "Node", "metadata": {"name": "other"}}"#);
    let (again, _) = request("system:node:other", "system:nodes");
    cluster.apply(&asks("taken", &again, client, &usages));
    // One that fits no signer fails, so that the controller has seen the one before it.
    let (wrong, _) = request("jane", "devs");
    cluster.apply(&asks("wrong", &wrong, client, &usages));
    cluster.kube(&["certificate", "approve", "wrong"]);
    cluster.kube(&[
        "wait",
        "csr/wrong",
        "--for=condition=Failed",
        "--timeout=30s",
    ]);
    let taken = cluster.json(&["csr", "taken"]);
    assert_eq!(taken["status"].get("conditions"), None, "{taken}");
}
