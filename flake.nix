{
  description = "Runs an AI agent sealed off, watches it with three witnesses, and writes one archive.";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-26.05";

  outputs =
    { self, nixpkgs }:
    let
      inherit (nixpkgs) lib;
      inherit (builtins) elem elemAt filter;

      systems = [
        "x86_64-linux"
        "aarch64-linux"
      ];

      # --- what is needed: the lists that ./enter installs, read from the same files ---------------
      parts = mark: text: filter (part: part != [ ] && part != "") (builtins.split mark text);
      lines = file: filter (line: builtins.match "#.*" line == null) (parts "\n" (builtins.readFile file));

      # requirements/system.txt explains its columns
      system = map (
        line:
        let
          column = elemAt (parts " +" line);
        in
        {
          use = column 0;
          kind = column 1;
          attribute = column 5;
        }
      ) (lines ./requirements/system.txt);

      # attributes of nixpkgs: of these uses, of these kinds
      wanted =
        uses: kinds:
        let
          fits = row: elem row.use uses && elem row.kind kinds && row.attribute != "-";
        in
        lib.unique (map (row: row.attribute) (filter fits system));

      # the names in requirements/NAME.in, which nixpkgs uses too; "-r OTHER.in" stands for another file
      pythonNames =
        name:
        builtins.concatMap (
          line:
          let
            other = builtins.match "-r (.+)\\.in" line;
          in
          if other == null then [ line ] else pythonNames (elemAt other 0)
        ) (lines (./requirements + "/${name}.in"));

      # --- what is made of it, for one system's nixpkgs -------------------------------------------
      project =
        pkgs:
        let
          pick = map (attribute: lib.getAttrFromPath (lib.splitString "." attribute) pkgs);
          programs =
            uses:
            pick (
              wanted uses [
                "program"
                "apparmor"
              ]
            );

          overlay = import ./requirements/overlay.nix { inherit pkgs; };
          python = pkgs.python313.override { packageOverrides = overlay; };
          pythonWith =
            name:
            python.withPackages (
              packages: map (each: packages.${each}) (pythonNames name ++ wanted [ "run" ] [ "python" ])
            );

          # bcc wants one tree where nixpkgs has two, and looks by default where only NixOS has one.
          # Any kernel's headers do, since struct offsets come from the running kernel's BTF.
          kernelHeaders =
            let
              kernel = elemAt (pick (wanted [ "run" ] [ "headers" ])) 0;
              modules = "${kernel.dev}/lib/modules/${kernel.modDirVersion}";
            in
            pkgs.runCommand "kernel-headers-${kernel.version}" { } ''
              mkdir $out
              cp -rs ${modules}/source/. $out/
              chmod -R u+w $out
              cp -rsf ${modules}/build/. $out/
            '';

          # what images/base.lock.toml pins, in the folders of a Debian mirror
          debianPackages = pkgs.linkFarm "debian-packages" (
            map (deb: {
              name = deb.path;
              path = pkgs.fetchurl {
                name = "${deb.name}.deb"; # the "~" of some versions may not stand in a store path
                url = "mirror://debian/${deb.path}";
                inherit (deb) sha256;
              };
            }) (builtins.fromTOML (builtins.readFile ./images/base.lock.toml)).deb
          );

          environment = {
            BCC_KERNEL_SOURCE = "${kernelHeaders}";
            ASSAY_DEBIAN_MIRROR = "file:${debianPackages}";
          };

          # the repository as it is: the harness finds bpf/, images/ and runner-fixtures/ beside itself
          cli = pkgs.writeShellApplication {
            name = "assay-runner";
            runtimeInputs = programs [ "run" ] ++ [ (pythonWith "runtime") ];
            runtimeEnv = environment // {
              PYTHONPATH = "${self}";
            };
            text = ''exec python -P -m harness "$@"'';
          };

          shell = pkgs.mkShell (
            environment
            // {
              name = "assay-runner";
              packages =
                programs [
                  "run"
                  "test"
                  "dev"
                ]
                ++ [
                  (pythonWith "dev")
                  (pkgs.writeShellScriptBin "assay-runner" ''exec python -P -m harness "$@"'')
                ];
              # a library among `packages` would count as the building machine's, and never be linked
              buildInputs = pick (wanted [ "test" ] [ "library" ]);
              # clang's BPF target knows neither
              hardeningDisable = [
                "stackprotector"
                "zerocallusedregs"
              ];
              # the clone in which the shell was opened: not its copy in the store, nor an outer PYTHONPATH
              shellHook = ''
                root=$PWD
                until [ -z "$root" ] || [ -e "$root/harness/__main__.py" ]; do root=''${root%/*}; done
                export PYTHONPATH=$root
                unset root
              '';
            }
          );

          # a nox session on a copy of the repository
          session =
            name:
            pkgs.runCommand "assay-runner-${name}"
              { nativeBuildInputs = programs [ "test" ] ++ [ (pythonWith "dev") ]; }
              ''
                cp -r ${self} source
                chmod -R u+w source
                cd source
                export HOME=$TMPDIR PYTHONPATH=$PWD
                git init -q
                git add -A
                nox -s ${name}
                touch $out
              '';
        in
        {
          devShells.default = shell;
          packages = {
            default = cli;
            kernel-headers = kernelHeaders;
            debian-packages = debianPackages;
          };
          apps.default = {
            type = "app";
            program = "${cli}/bin/assay-runner";
          };
          checks = {
            lint = session "lint";
            unit = session "unit";
          };
          formatter = pkgs.nixfmt-tree;
        };

      forAllSystems =
        output: lib.genAttrs systems (system: (project nixpkgs.legacyPackages.${system}).${output});
    in
    lib.genAttrs [
      "devShells"
      "packages"
      "apps"
      "checks"
      "formatter"
    ] forAllSystems;
}
