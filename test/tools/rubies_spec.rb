# frozen_string_literal: true

require "fileutils"
require "open3"
require "rbconfig"
require "tmpdir"

# Where version managers put a Ruby, with a few lines of sh in its place.
RSpec.describe "tools/rubies" do
  around do |example|
    Dir.mktmpdir do |home|
      @home = home
      example.run
    end
  end

  def install(path, answer)
    path = File.join(@home, path, "bin/ruby")
    FileUtils.mkdir_p(File.dirname(path))
    File.write(path, "#!/bin/sh\n#{answer}\n", perm: 0o755)
  end

  def rubies(**env)
    env = { "HOME" => @home, "RBENV_ROOT" => nil, "ASDF_DATA_DIR" => nil, "MISE_DATA_DIR" => nil,
            "XDG_DATA_HOME" => nil }.merge(env.transform_keys(&:to_s))
    Open3.capture2(env, File.expand_path("../../tools/rubies", __dir__)).first.lines(chomp: true)
  end

  it "lists the Ruby that runs this" do
    expect(rubies(PATH: "#{RbConfig::CONFIG['bindir']}:#{ENV.fetch('PATH')}"))
      .to include "#{File.realpath(RbConfig.ruby)} #{RUBY_VERSION}"
  end

  it "looks where version managers put theirs, and lists the newest first, each once" do
    install(".rubies/ruby-9.9.1", "echo /a/ruby 9.9.1")
    install(".rbenv/versions/9.10.0", "echo /b/ruby 9.10.0")
    install(".asdf/installs/ruby/9.2.0", "echo /c/ruby 9.2.0")
    install(".local/share/mise/installs/ruby/9.8.0", "echo /d/ruby 9.8.0")
    install(".local/share/mise/installs/ruby/latest", "echo /d/ruby 9.8.0")
    install("elsewhere/versions/9.7.0", "echo /e/ruby 9.7.0")
    expect(rubies.first(4))
      .to eq ["/b/ruby 9.10.0", "/a/ruby 9.9.1", "/d/ruby 9.8.0", "/c/ruby 9.2.0"]
    expect(rubies(RBENV_ROOT: File.join(@home, "elsewhere"))).to include "/e/ruby 9.7.0"
  end

  it "passes over what breaks" do
    install(".rubies/broken", "exit 1")
    expect(rubies).to all match(%r{\A/.+ \d+\.\d+\.\d+\z})
  end
end
