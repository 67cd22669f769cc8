//! temporary
use super::Component;
use sha2::Digest;
impl Component {
    /// temporary
    pub fn digest(&self) -> String {
        let d = sha2::Sha256::digest(serde_json::to_vec(self).unwrap_or_default());
        d.iter().map(|b| format!("{b:02x}")).collect()
    }
}
