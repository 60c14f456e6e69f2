# Stands in for nixpkgs where there is no network: it has exactly the attributes of attributes.txt,
# each a derivation that knows its name, and the functions that our flake calls, which keep what they
# were given. Nothing of it is ever built.
{
  outputs =
    _:
    let
      inherit (builtins) concatStringsSep elemAt filter head isString length listToAttrs split tail;

      parts = mark: text: filter (part: isString part && part != "") (split mark text);
      lines = parts "\n" (builtins.readFile ./attributes.txt);
      listed = filter (line: builtins.match "#.*" line == null) lines;
      paths = map (line: parts "\\." (elemAt (parts " +" line) 0)) listed;

      lib = {
        genAttrs = names: f: listToAttrs (map (name: { inherit name; value = f name; }) names);
        getAttrFromPath = path: set: builtins.foldl' (found: name: found.${name}) set path;
        splitString = mark: parts (builtins.replaceStrings [ "." ] [ "\\." ] mark);
        unique = builtins.foldl' (seen: one: if builtins.elem one seen then seen else seen ++ [ one ]) [ ];
      };

      packages =
        system:
        let
          make = name: needs: derivation { inherit name system needs; builder = "/bin/sh"; };
          thing = name: make name "" // { attribute = name; };
          # all that it was given is in the derivation, so all of it must evaluate
          made = name: given: make name (builtins.toJSON given) // { inherit given; };

          # a derivation for each path, with what lies below it
          tree =
            above: below:
            listToAttrs (
              map (
                name:
                let
                  here = above ++ [ name ];
                  deeper = map tail (filter (path: length path > 1 && head path == name) below);
                in
                { inherit name; value = thing (concatStringsSep "." here) // tree here deeper; }
              ) (map head below)
            );
          all = tree [ ] paths;

          python = overlay: rec {
            pkgs = all.python313Packages // overlay (pkgs // builders) all.python313Packages;
            withPackages = f: made "python-env" (f pkgs);
            override = given: python given.packageOverrides;
          };
          builders = {
            buildPythonPackage = given: made given.pname given;
            fetchPypi = given: given;
          };
        in
        all
        // {
          python313 = python (_: _: { });
          stdenv = all.stdenv // { hostPlatform.system = system; };
          linuxPackages = all.linuxPackages // {
            kernel = all.linuxPackages.kernel // { version = "0"; modDirVersion = "0"; };
          };
          fetchurl = given: made given.name given;
          linkFarm = made;
          mkShell = given: made given.name given;
          runCommand = name: _: made name;
          writeShellApplication = given: made given.name given;
          writeShellScriptBin = made;
        };
    in
    {
      inherit lib;
      legacyPackages = lib.genAttrs [ "x86_64-linux" "aarch64-linux" ] packages;
    };
}
