//! Numbers that may be percentages.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// The number itself, or its percentage of `of`, rounded up or down; none for what is neither (the API server refuses it).
#[must_use]
pub fn scaled(value: Option<&IntOrString>, of: i32, up: bool) -> Option<i32> {
    match value? {
        IntOrString::Int(number) => Some(*number),
        IntOrString::String(text) => {
            let percent: i64 = text.strip_suffix('%')?.parse().ok()?;
            let product = percent.checked_mul(of.into())?;
            let rest = i64::from(up && product.rem_euclid(100) != 0);
            i32::try_from(product.div_euclid(100) + rest).ok()
        }
    }
}
