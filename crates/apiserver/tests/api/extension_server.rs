//! A server of the test's own behind an APIService.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use berth_apiserver::FrontProxyConfig;
use rcgen::{CertifiedIssuer, ExtendedKeyUsagePurpose, KeyPair};
use rustls::RootCertStore;
use serde_json::{Value, json};

use crate::harness::{Api, PODS, pod};
use crate::hook_server::{Got, HookServer, reply};

pub(crate) const SERVICES: &str = "/apis/apiregistration.k8s.io/v1/apiservices";
pub(crate) const EXT: &str = "/apis/ext.example.com/v1";

/// A CA for the front proxy, and its configuration.
pub(crate) fn front() -> (RootCertStore, FrontProxyConfig) {
    let mut params = rcgen::CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let mut params = rcgen::CertificateParams::default();
    params
        .distinguished_name
        .push(rcgen::DnType::CommonName, "front-proxy-client");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let key = KeyPair::generate().unwrap();
    let leaf = params.signed_by(&key, &ca).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(ca.der().clone()).unwrap();
    let config = FrontProxyConfig {
        certificate: leaf.pem().into_bytes(),
        key: key.serialize_pem().into_bytes(),
        ca: ca.pem().into_bytes(),
        allowed_names: vec!["front-proxy-client".to_owned()],
        client_ca: ca.pem().into_bytes(),
    };
    (roots, config)
}

/// Another server, on this machine as a pod with its node's network, behind the Service `ext`.
pub(crate) async fn extension(api: &Api, ip: IpAddr, clients: RootCertStore) -> HookServer {
    let server = HookServer::start_tls(
        ip,
        &["ext.default.svc"],
        Arc::new(|got: Got| Box::pin(async move { answer(&got) })),
        Some(clients),
    )
    .await;
    let service = json!({"metadata": {"name": "ext"}, "spec": {"ports": [{"port": 443}]}});
    api.post("/api/v1/namespaces/default/services", service)
        .await
        .expect(201);
    let node = json!({"metadata": {"name": "n"}, "status": {"addresses": [{"type": "InternalIP", "address": ip.to_string()}]}});
    api.post("/api/v1/nodes", node).await.expect(201);
    let port = server.address.port();
    let mut host = pod("ext");
    host["spec"]["nodeName"] = json!("n");
    host["spec"]["hostNetwork"] = json!(true);
    host["spec"]["containers"][0]["ports"] = json!([{"containerPort": port, "hostPort": port}]);
    api.post(PODS, host).await.expect(201);
    let slice = json!({"metadata": {"name": "ext-1", "labels": {"kubernetes.io/service-name": "ext"}}, "addressType": "IPv4",
        "ports": [{"port": port}], "endpoints": [{"addresses": [ip.to_string()], "targetRef": {"kind": "Pod", "name": "ext", "namespace": "default"}}]});
    api.post(
        "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices",
        slice,
    )
    .await
    .expect(201);
    server
}

fn answer(got: &Got) -> http::Response<http_body_util::Full<bytes::Bytes>> {
    match got.path.split('?').next().unwrap_or_default() {
        EXT => {
            let list = json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": "ext.example.com/v1", "resources": [
                {"name": "things", "singularName": "thing", "namespaced": true, "kind": "Thing", "verbs": ["get", "list"], "shortNames": ["th"]},
                {"name": "things/status", "singularName": "", "namespaced": true, "kind": "Thing", "verbs": ["get"]}]});
            reply(200, list.to_string())
        }
        "/openapi/v3" => {
            let url = "/openapi/v3/apis/ext.example.com/v1?hash=one";
            let paths = json!({"apis/ext.example.com/v1": {"serverRelativeURL": url},
                "api/v1": {"serverRelativeURL": "/openapi/v3/api/v1?hash=forged"}});
            reply(200, json!({"paths": paths}).to_string())
        }
        "/openapi/v3/apis/ext.example.com/v1" => {
            let document = json!({"openapi": "3.0.0", "info": {"title": "ext"}, "paths": {}});
            reply(200, document.to_string())
        }
        "/openapi/v2" => {
            let reference = json!({"$ref": "#/definitions/com.example.Thing"});
            let get = json!({"get": {"responses": {"200": {"schema": reference}}}});
            let document = json!({"swagger": "2.0", "info": {"title": "ext"},
                "paths": {"/apis/ext.example.com/v1/things": get, "/api/v1/pods": {"get": {"operationId": "forged"}}},
                "definitions": {"com.example.Thing": {"type": "object", "description": "a thing", "properties": {
                        "metadata": {"$ref": "#/definitions/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"}}},
                    "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta": {"type": "object", "description": "forged"},
                    "io.k8s.api.core.v1.Pod": {"type": "object", "description": "forged"}}});
            reply(200, document.to_string())
        }
        path if path.ends_with("/moved") => {
            let mut response = reply(302, "");
            response
                .headers_mut()
                .insert("location", "https://localhost/".parse().unwrap());
            response
        }
        path => reply(200, json!({"kind": "Thing", "path": path}).to_string()),
    }
}

pub(crate) fn api_service(server: &HookServer) -> Value {
    json!({"metadata": {"name": "v1.ext.example.com"}, "spec": {"group": "ext.example.com", "version": "v1", "caBundle": server.ca_bundle(),
        "groupPriorityMinimum": 100, "versionPriority": 10, "service": {"namespace": "default", "name": "ext"}}})
}

/// Waits until an APIService has this condition.
pub(crate) async fn condition(api: &Api, name: &str, status: &str) -> Value {
    let begun = Instant::now();
    loop {
        let service = api.get(&format!("{SERVICES}/{name}")).await;
        if service.code == 200 {
            let condition = service.json()["status"]["conditions"][0].clone();
            if condition["status"] == status {
                return condition;
            }
            assert!(begun.elapsed() < Duration::from_secs(20), "{condition}");
        }
        assert!(
            begun.elapsed() < Duration::from_secs(20),
            "{name}: {}",
            service.text
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
