# Python packages that we need newer than nixpkgs has them: the contract `acyclic_siblings` came with
# import-linter 2.6. The very wheels of dev.lock, since their crates could not be pinned from there.
{ pkgs }:
final: _: {
  grimp = final.buildPythonPackage rec {
    pname = "grimp";
    version = "3.19";
    format = "wheel";
    src = final.fetchPypi {
      inherit pname version format;
      dist = "cp313";
      python = "cp313";
      abi = "cp313";
      platform =
        {
          x86_64-linux = "manylinux2014_x86_64.manylinux_2_17_x86_64";
          aarch64-linux = "manylinux2014_aarch64.manylinux_2_17_aarch64";
        }
        .${pkgs.stdenv.hostPlatform.system};
      hash =
        {
          x86_64-linux = "sha256-jkmtmbDGLccN/Fdx55juFC36lmG7YphsyEvwj1c0M1Y=";
          aarch64-linux = "sha256-Y5dfFfAEgrmJW3tJYSPoTF3SPqg3VGB0LwKBW84Atyc=";
        }
        .${pkgs.stdenv.hostPlatform.system};
    };
    nativeBuildInputs = [ pkgs.autoPatchelfHook ];
    buildInputs = [ pkgs.stdenv.cc.cc.lib ];
    pythonImportsCheck = [ "grimp" ];
  };

  import-linter = final.buildPythonPackage rec {
    pname = "import_linter";
    version = "2.16";
    format = "wheel";
    src = final.fetchPypi {
      inherit pname version format;
      dist = "py3";
      python = "py3";
      hash = "sha256-53VgLpIUqzkz/H0hYieOofEd2SKckUc1wb2kO5RhlWU=";
    };
    dependencies = [
      final.click
      final.grimp
      final.rich
    ];
    pythonImportsCheck = [ "importlinter" ];
  };
}
