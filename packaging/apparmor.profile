# AppArmor profile of stockade: it may make user namespaces.
#
# Where `kernel.apparmor_restrict_unprivileged_userns` is 1 (Ubuntu 23.10 and later) a program
# without a profile that says so gets namespaces without rights in them, and Stockade's first
# backend cannot be had. The profile confines nothing: what Stockade runs is held by its own walls.
#
# The package writes this file anew with each version; changes belong into local/stockade.

abi <abi/4.0>,
include <tunables/global>

profile stockade /usr/bin/stockade flags=(unconfined) {
  userns,

  include if exists <local/stockade>
}
