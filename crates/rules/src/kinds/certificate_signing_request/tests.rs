use super::*;
use serde_json::{Value, json};

/// For CN=eve, O=system:masters.
const REQUEST: &str = "LS0tLS1CRUdJTiBDRVJUSUZJQ0FURSBSRVFVRVNULS0tLS0KTUlIak1JR0pBZ0VBTUNjeEZ6QVZCZ05WQkFvTURuTjVjM1JsYlRwdFlYTjBaWEp6TVF3d0NnWURWUVFEREFObApkbVV3V1RBVEJnY3Foa2pPUFFJQkJnZ3Foa2pPUFFNQkJ3TkNBQVRzc0tpWEVPcmFnNExYRFErbEF5aG00SVJwCkErVHNTZ3dsVWFKWFk2OUVSckMvU2tSUG12dlhsSUpsenFBenVlUm5hSnUzSEk5REFxNFo3eWIzOG5oV29BQXcKQ2dZSUtvWkl6ajBFQXdJRFNRQXdSZ0loQU02a0p5eU04ekRSa1dNNHJWVzRNZUd4WG1MMndpS2hiSlhST0JxOQpXQlZrQWlFQWtrdHlNWFRPckRhaTRZbHZNQVdINE1pT2ljMDhMekVkc3BtbzRNZGl5UTA9Ci0tLS0tRU5EIENFUlRJRklDQVRFIFJFUVVFU1QtLS0tLQo=";

fn csr(status: Value) -> CertificateSigningRequest {
    serde_json::from_value(json!({
        "metadata": {"name": "a", "resourceVersion": "1"},
        "spec": {"request": REQUEST, "signerName": "example.com/own", "usages": ["client auth"]},
        "status": status,
    }))
    .unwrap()
}

fn causes(errors: &[FieldError]) -> Vec<String> {
    errors
        .iter()
        .map(|e| format!("{} {}", e.kind.reason(), e.field))
        .collect()
}

#[test]
fn requests() {
    let good = csr(json!({}));
    assert_eq!(causes(&good.validate()), Vec::<String>::new());
    assert_eq!(
        request::parse(&good.spec.request.0),
        Ok(vec!["system:masters".to_owned()])
    );
    let mut bad = good;
    bad.spec.signer_name = "own".to_owned();
    bad.spec.usages = Some(vec!["fun".to_owned(), "fun".to_owned()]);
    bad.spec.expiration_seconds = Some(1);
    bad.spec.request.0.truncate(100);
    assert_eq!(
        causes(&bad.validate()),
        [
            "FieldValueInvalid spec.request",
            "FieldValueNotSupported spec.usages[0]",
            "FieldValueNotSupported spec.usages[1]",
            "FieldValueDuplicate spec.usages[1]",
            "FieldValueInvalid spec.signerName",
            "FieldValueInvalid spec.expirationSeconds",
        ]
    );
}

#[test]
fn who_signs_does_not_approve_and_who_approves_does_not_sign() {
    let old = csr(json!({}));
    let approved = json!([{"type": "Approved", "status": "True"}]);
    let mut signed = csr(json!({"conditions": approved, "certificate": "eA=="}));
    signed.prepare_status(&old);
    assert_eq!(signed.status.as_ref().unwrap().conditions, None);
    assert_eq!(
        causes(&signed.validate_status(&old)),
        ["FieldValueInvalid status.certificate"]
    );
    let mut decided = csr(json!({"conditions": approved, "certificate": "eA=="}));
    decided.prepare_subresource(APPROVAL, &old).unwrap();
    assert_eq!(decided.status.as_ref().unwrap().certificate, None);
    assert_eq!(decided.validate_subresource(APPROVAL, &old).unwrap(), []);
    let mut undone = csr(json!({"conditions": [{"type": "Denied", "status": "True"}]}));
    undone.prepare_subresource(APPROVAL, &decided).unwrap();
    assert_eq!(
        causes(&undone.validate_subresource(APPROVAL, &decided).unwrap()),
        ["FieldValueForbidden status.conditions"]
    );
    let both = csr(
        json!({"conditions": [{"type": "Denied", "status": "True"}, {"type": "Approved", "status": "False"}]}),
    );
    assert_eq!(
        causes(&both.validate()),
        [
            "FieldValueNotSupported status.conditions[1].status",
            "FieldValueInvalid status.conditions[1].type"
        ]
    );
    assert!(undone.prepare_subresource("other", &old).is_err());
}
