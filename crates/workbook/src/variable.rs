//! `--env NAME=VALUE`: variables that a reader gives to the step's program.

use crate::Error;

/// One variable. It has no `Debug`: its value may be a secret.
pub struct Variable {
    name: String,
    value: String,
}

/// What the reader gave, understood. (Not by clap, whose errors show the value.)
///
/// # Errors
/// What is wrong with the first that can't be understood.
pub fn all(given: &[String]) -> Result<Vec<Variable>, Error> {
    let variables = given.iter().map(|text| Variable::parse(text));
    variables.collect::<Result<_, _>>().map_err(Error::Variable)
}

impl Variable {
    fn parse(text: &str) -> Result<Self, &'static str> {
        let (name, value) = text
            .split_once('=')
            .ok_or("a variable is given as NAME=VALUE, such as LOG_FORMAT=json")?;
        let mut bytes = name.bytes();
        let is_name = bytes
            .next()
            .is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
            && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_');
        if !is_name {
            return Err("the name of a variable has letters, digits and `_` only");
        }
        if name == "PORT" {
            return Err("PORT is chosen by the command: `run` has --port");
        }
        if value.contains('\0') {
            return Err("the value of a variable can't hold a zero byte");
        }
        Ok(Self {
            name: name.to_owned(),
            value: value.to_owned(),
        })
    }
}

/// `first`, and then what the reader gave: of two with one name, the last counts.
pub fn with<'a>(first: &[(&'a str, &'a str)], given: &'a [Variable]) -> Vec<(&'a str, &'a str)> {
    let given = given.iter();
    let given = given.map(|variable| (variable.name.as_str(), variable.value.as_str()));
    first.iter().copied().chain(given).collect()
}

/// The value of the variable `name`, if it was given.
pub fn value<'a>(given: &'a [Variable], name: &str) -> Option<&'a str> {
    let last = given.iter().rev().find(|variable| variable.name == name)?;
    Some(&last.value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_has_a_name_and_any_value() {
        let given = ["A=1", "_B2=x=y z", "C=", "A=2"].map(str::to_owned);
        let given = all(&given).unwrap();
        let both = with(&[("A", "0"), ("D", "3")], &given);
        let expected = [
            ("A", "0"),
            ("D", "3"),
            ("A", "1"),
            ("_B2", "x=y z"),
            ("C", ""),
            ("A", "2"),
        ];
        assert_eq!(both, expected);
        assert_eq!(value(&given, "A"), Some("2"));
        assert_eq!(value(&given, "D"), None);
        for (text, part) in [
            ("A", "NAME=VALUE"),
            ("=1", "letters"),
            ("2A=1", "letters"),
            ("A B=1", "letters"),
            ("PORT=1", "--port"),
            ("A=\0", "zero byte"),
        ] {
            let error = all(&[text.to_owned()]).err().unwrap().to_string();
            assert!(
                error.starts_with("--env: ") && error.contains(part),
                "{error}"
            );
        }
    }
}
