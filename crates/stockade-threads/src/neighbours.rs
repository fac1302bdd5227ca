//! Under which names a stranger can have one too, so that neighbours of a host are not its owner's.
//!
//! A table by hand: hosting of pages, applications and files, tunnels, dynamic names, and top levels
//! of two words that do not look like it. What is missing is offered as neighbours; what is here can
//! still be written into configuration.

/// Providers under any ending, at any place in a name: `ngrok.io`, `blogspot.de`, `amazonaws.com.cn`.
const LABELS: &[&str] =
    &["amazonaws", "blogspot", "myshopify", "ngrok", "ngrok-free", "sharepoint"];

/// Names under which anybody gets one, in order.
const SHARED: &[&str] = &[
    "aivencloud.com",
    "akamaihd.net",
    "akamaized.net",
    "altervista.org",
    "amplifyapp.com",
    "appspot.com",
    "asso.fr",
    "awsapprunner.com",
    "awsapps.com",
    "azure-api.net",
    "azurecontainer.io",
    "azurecontainerapps.io",
    "azureedge.net",
    "azurefd.net",
    "azurestaticapps.net",
    "azurewebsites.net",
    "b-cdn.net",
    "backblazeb2.com",
    "bitbucket.io",
    "cdn77.org",
    "cloudapp.azure.com",
    "cloudapp.net",
    "cloudflarestorage.com",
    "cloudfront.net",
    "cloudfunctions.net",
    "code.run",
    "codeberg.page",
    "core.windows.net",
    "csb.app",
    "ddns.net",
    "deno.dev",
    "deno.net",
    "devtunnels.ms",
    "digitaloceanspaces.com",
    "dnsalias.com",
    "duckdns.org",
    "dyndns.org",
    "dynv6.net",
    "edgekey.net",
    "edgesuite.net",
    "elasticbeanstalk.com",
    "exp.direct",
    "fastly.net",
    "firebaseapp.com",
    "firebaseio.com",
    "fly.dev",
    "framer.app",
    "framer.website",
    "freeddns.org",
    "gateway.dev",
    "ghost.io",
    "gitbook.io",
    "github.dev",
    "github.io",
    "githubpreview.dev",
    "gitlab.io",
    "gitpod.io",
    "glitch.me",
    "hashnode.dev",
    "herokuapp.com",
    "hf.space",
    "hopto.org",
    "ipfs.dweb.link",
    "itch.io",
    "kinsta.app",
    "kinsta.page",
    "koyeb.app",
    "lhr.life",
    "lhr.rocks",
    "linodeobjects.com",
    "loca.lt",
    "localhost.run",
    "localto.net",
    "lovable.app",
    "medium.com",
    "modal.run",
    "myqcloud.com",
    "mystrikingly.com",
    "neocities.org",
    "netlify.app",
    "nip.io",
    "no-ip.org",
    "northflank.app",
    "notion.site",
    "on.aws",
    "ondigitalocean.app",
    "onrender.com",
    "oraclecloud.com",
    "pages.dev",
    "pantheonsite.io",
    "pinggy.io",
    "pinggy.link",
    "platformsh.site",
    "pythonanywhere.com",
    "r2.dev",
    "railway.app",
    "readme.io",
    "readthedocs-hosted.com",
    "readthedocs.io",
    "readthedocs.org",
    "repl.co",
    "replit.app",
    "replit.dev",
    "run.app",
    "scw.cloud",
    "servehttp.com",
    "serveo.net",
    "sslip.io",
    "stackblitz.io",
    "storage.googleapis.com",
    "streamlit.app",
    "substack.com",
    "supabase.co",
    "surge.sh",
    "svc.id.goog",
    "sytes.net",
    "tigris.dev",
    "trafficmanager.net",
    "trycloudflare.com",
    "ts.net",
    "tumblr.com",
    "usercontent.goog",
    "val.run",
    "vercel.app",
    "vercel.dev",
    "vultrobjects.com",
    "wasabisys.com",
    "web.app",
    "webcontainer.io",
    "webflow.io",
    "webhook.site",
    "weebly.com",
    "wixsite.com",
    "wordpress.com",
    "workers.dev",
    "wpengine.com",
    "xip.io",
    "zapto.org",
    "zeabur.app",
];

/// Whether strangers have names below `parent`, at any depth: it is one of the table, below one (as
/// regions are: `eu.ngrok.io`, `a.run.app`), or above one (`windows.net`).
pub(crate) fn is_shared(parent: &str) -> bool {
    let is_below = |name: &str, above: &str| {
        name.strip_suffix(above).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    };
    parent.split('.').any(|label| LABELS.contains(&label))
        || SHARED.iter().any(|shared| is_below(parent, shared) || is_below(shared, parent))
}

#[cfg(test)]
mod tests {
    use super::*;
    use stockade_policy::HostName;

    #[test]
    fn the_table_has_each_name_once_and_in_its_one_spelling() {
        assert!(SHARED.is_sorted() && LABELS.is_sorted());
        for (at, name) in SHARED.iter().enumerate() {
            assert_eq!(HostName::new(name).unwrap().as_str(), *name);
            let others = SHARED.iter().enumerate().filter(|(other, _)| *other != at);
            let above = others.map(|(_, other)| format!(".{other}")).find(|o| name.ends_with(o));
            assert_eq!(above, None, "{name} is in the table by what is above it");
        }
    }

    #[test]
    fn strangers_have_names_at_below_and_above_what_is_in_the_table() {
        for parent in [
            "github.io",
            "alice.github.io",
            "gitlab.io",
            "pages.dev",
            "workers.dev",
            "alice.workers.dev",
            "vercel.app",
            "netlify.app",
            "herokuapp.com",
            "web.app",
            "firebaseapp.com",
            "azurewebsites.net",
            "blob.core.windows.net",
            "windows.net",
            "cloudfront.net",
            "amazonaws.com",
            "s3.eu-west-1.amazonaws.com",
            "amazonaws.com.cn",
            "appspot.com",
            "a.run.app",
            "fly.dev",
            "onrender.com",
            "ngrok.io",
            "eu.ngrok.io",
            "ngrok-free.app",
            "trycloudflare.com",
            "readthedocs.io",
            "blogspot.com",
            "blogspot.co.uk",
            "surge.sh",
            "glitch.me",
            "googleapis.com",
        ] {
            assert!(is_shared(parent), "{parent}");
        }
        for parent in ["github.com", "notgithub.io", "example.org", "pypi.org", "io.example.org"] {
            assert!(!is_shared(parent), "{parent}");
        }
    }
}
