//! Session ids: random texts without meaning.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fastrand::Rng;

use crate::behavior::IdForm;

pub(super) fn mint(form: IdForm, rng: &mut Rng) -> String {
    let random = |rng: &mut Rng, bytes: usize| STANDARD.encode((0..bytes).map(|_| rng.u8(..)).collect::<Vec<u8>>());
    match form {
        IdForm::Base64 => STANDARD.encode(random(rng, 42)),
        // Contains a timeout's digits too, to catch clients that replace text in a URL.
        IdForm::Reserved => format!("{}/+%2F60=", random(rng, 40)),
        IdForm::Long => random(rng, 3 << 10),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_has_the_requested_form() {
        let rng = &mut Rng::with_seed(1);
        let id = mint(IdForm::Base64, rng);
        assert!(STANDARD.decode(&id).is_ok_and(|inner| STANDARD.decode(inner).is_ok()) && id.len() == 76, "{id}");
        let id = mint(IdForm::Reserved, rng);
        assert!(["/", "+", "%", "="].iter().all(|it| id.contains(it)), "{id}");
        assert_eq!(mint(IdForm::Long, rng).len(), 4096);
        assert_ne!(mint(IdForm::Long, rng), mint(IdForm::Long, rng));
    }
}
