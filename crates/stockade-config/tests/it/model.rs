//! The model and the agent, as a user configures them and a project may not.

use std::time::Duration;

use stockade_config::{AgentLimits, KeySource, ModelApi, ModelText, Notify};

use crate::lab::Lab;

const MODEL: &str = "[model]\napi = 'responses'\nbase_url = 'https://api.example.org/v1'\n\
                     name = 'large'\nkey = { env = 'EXAMPLE_KEY' }\n";

fn said(text: &str) -> String {
    let lab = Lab::new();
    lab.user(text);
    lab.refused()
}

#[test]
fn the_layers_make_one_model() {
    let mut lab = Lab::new();
    lab.user(MODEL);
    lab.request.options = vec!["model.name=small".to_owned(), "agent.max_turns=7".to_owned()];
    let loaded = lab.loaded();
    let expected = ModelText {
        context_tokens: stockade_config::CONTEXT_TOKENS,
        api: ModelApi::Responses,
        base_url: "https://api.example.org/v1".to_owned(),
        name: "small".to_owned(),
        key: Some(KeySource::Variable("EXAMPLE_KEY".to_owned())),
    };
    assert_eq!(loaded.model().unwrap(), expected);
    let place = |name| loaded.sources().into_iter().find(|(found, _)| found == name).unwrap().1;
    assert_eq!((place("model.name"), place("agent.max_turns")), ("-c:1".into(), "-c:1".into()));
    assert!(lab.shown(&place("model.key")).ends_with("config.toml:5"));
    let agent = AgentLimits {
        command_timeout: Duration::from_mins(10),
        max_turns: 7,
        max_tokens: None,
        question_timeout: Duration::from_mins(5),
        notify: Notify::Off,
    };
    assert_eq!(loaded.agent, agent);

    lab.request.options = vec!["model.key={command=['pass','show','x y']}".to_owned()];
    let command = ["pass", "show", "x y"].map(str::to_owned).to_vec();
    assert_eq!(lab.loaded().model().unwrap().key, Some(KeySource::Program(command)));
}

#[test]
fn a_key_goes_to_no_server_but_its_own() {
    let mut lab = Lab::new();
    lab.user(MODEL);
    lab.request.options = vec!["model.base_url='https://other.example'".to_owned()];
    assert_eq!(lab.loaded().model().unwrap().key, None);
    lab.request.options.push("model.key={env='OTHER_KEY'}".to_owned());
    let key = Some(KeySource::Variable("OTHER_KEY".to_owned()));
    assert_eq!(lab.loaded().model().unwrap().key, key);
}

#[test]
fn what_is_missing_is_said_only_to_who_needs_it() {
    let lab = Lab::new();
    lab.user("[model]\nname = 'large'\n");
    let error = lab.loaded().model().unwrap_err();
    assert_eq!(error.to_string(), "no model is configured: `api` of `[model]` is missing");
    assert!(error.hint().unwrap().contains("~/.config/stockade/config.toml"));

    let mut env = lab.env.clone();
    assert_eq!(
        env.key("EXAMPLE_KEY").unwrap_err().to_string(),
        "the variable `EXAMPLE_KEY`, which holds the model's key, is not set"
    );
    env.vars.insert("EXAMPLE_KEY".into(), " ".into());
    assert!(env.key("EXAMPLE_KEY").is_err());
    env.vars.insert("EXAMPLE_KEY".into(), "sk-1".into());
    assert_eq!(env.key("EXAMPLE_KEY").unwrap(), "sk-1");
}

/// Threat model, C2: a project's file cannot widen what the user allowed.
#[test]
fn a_project_says_nothing_of_the_model_and_raises_no_limit() {
    let lab = Lab::new();
    lab.user(&format!("{MODEL}[agent]\nmax_turns = 50\n"));
    let before = lab.loaded();
    lab.project(
        "[model]\napi = 'chat'\nbase_url = 'https://evil.example'\nname = 'small'\n\
         key = { command = ['cat', '/etc/passwd'] }\n\
         [agent]\nmax_turns = 51\nmax_tokens = 9\ncommand_timeout = '2h'\n",
    );
    let after = lab.loaded();
    assert_eq!(after.model().unwrap(), before.model().unwrap());
    assert_eq!(after.agent, AgentLimits { max_tokens: Some(9), ..before.agent });
    let project = "TOP/home/work/.stockade/config.toml";
    let ignored =
        |line: u32, what: &str| format!("{project}:{line}: ignored: a project file may not {what}");
    assert_eq!(
        lab.warnings(),
        [
            ignored(2, "choose the model"),
            ignored(3, "choose the model"),
            ignored(4, "choose the model"),
            ignored(5, "choose the model"),
            ignored(9, "raise a limit"),
            ignored(7, "raise a limit"),
        ]
    );
    lab.project("[model]\nkey = { keyring = ['a', 'b'] }\n[agent]\nmax_turns = 3\n");
    assert_eq!(lab.loaded().agent.max_turns, 3);
    assert_eq!(lab.warnings(), [ignored(2, "choose the model")]);
}

#[test]
fn the_key_itself_is_refused_and_not_shown() {
    insta::assert_snapshot!(said("[model]\nkey = 'sk-secret' # ä\n"), @r#"
    error: the key itself is refused
     --> TOP/home/.config/stockade/config.toml:2:7
      |
    2 | key = *********** # ä
      |       ^^^^^^^^^^^ a key does not stand in a file that others may read, copy or commit
      |
      = help: write `{ env = "NAME" }` or `{ command = ["pass", "show", "x"] }`
    "#);
    for text in [
        "[model]\nbase_url = 'https://me:sk-secret@example.org'\n",
        "[model]\nbase_url = 'https://example.org/v1?key=sk-secret'\n",
        "model.key = '''\nsk-secret\n'''\n",
        "[model]\nkey = ['sk-secret']\n",
        "[model]\nkey = { value = 'sk-secret' }\n",
        "[model]\nkey = { env = 'sk-secret' }\n",
    ] {
        let said = said(text);
        assert!(!said.contains("sk-secret") && said.contains("***"), "{said}");
    }
    let mut lab = Lab::new();
    lab.request.options = vec!["model.key=sk-secret".to_owned()];
    let said = lab.refused();
    assert!(said.contains("the key itself is refused") && !said.contains("sk-secret"), "{said}");
}

#[test]
fn wrong_values_are_shown_with_what_was_expected() {
    insta::assert_snapshot!(said("[model]\nbase_url = 'http://example.org/v1'\n"), @r"
    error: wrong value
     --> TOP/home/.config/stockade/config.toml:2:12
      |
    2 | base_url = 'http://example.org/v1'
      |            ^^^^^^^^^^^^^^^^^^^^^^^ plain `http` to another machine shows the conversation and the key to the network
      |
      = help: use `https`, or a tunnel that ends at `http://localhost:PORT`
    ");
    insta::assert_snapshot!(said("[model]\napi = 'completions'\n"), @r"
    error: wrong value
     --> TOP/home/.config/stockade/config.toml:2:7
      |
    2 | api = 'completions'
      |       ^^^^^^^^^^^^^ expected one of `responses`, `chat`, `messages`
    ");
    insta::assert_snapshot!(said("[model]\nbaseurl = 'x'\n"), @r"
    error: unknown key `baseurl`
     --> TOP/home/.config/stockade/config.toml:2:1
      |
    2 | baseurl = 'x'
      | ^^^^^^^ not known
      |
      = help: did you mean `base_url`?
    ");
    for (text, expected) in [
        ("[model]\nname = ''\n", "the name of a model"),
        ("[model]\nkey = {}\n", "one of `env`, `command`, `keyring`"),
        ("[model]\nkey = { env = 'A', command = ['a'] }\n", "one of `env`, `command`, `keyring`"),
        ("[model]\nkey = { env = '$A' }\n", "the name of a variable"),
        ("[model]\nkey = { command = 'pass' }\n", "a list of strings"),
        ("[model]\nkey = { command = [] }\n", "a program and its arguments"),
        ("[model]\nkey = { keyring = ['service'] }\n", "names and values of attributes in turn"),
        ("[agent]\nmax_turns = 0\n", "a number of turns from 1 to 1000000"),
        ("[agent]\nmax_turns = 4294967297\n", "a number of turns from 1 to 1000000"),
        ("[agent]\nmax_tokens = '5'\n", "a number of tokens, at least 1"),
        ("[agent]\ncommand_timeout = 5\n", "a string"),
    ] {
        let said = said(text);
        assert!(said.contains(&format!("expected {expected}")), "{text}{said}");
    }
}

#[test]
fn a_question_calls_as_the_user_chose() {
    let mut lab = Lab::new();
    for (text, expected) in [
        ("bell = true", Notify::Bell),
        ("bell = false", Notify::Off),
        ("notify = 'desktop'", Notify::Desktop),
        ("notify = 'off'", Notify::Off),
    ] {
        lab.request.options = vec![format!("agent.{text}")];
        assert_eq!(lab.loaded().agent.notify, expected, "{text}");
    }
    lab.request.options = vec!["agent.notify='loud'".to_owned()];
    assert!(lab.refused().contains("`off`, `bell` or `desktop`"));
}
