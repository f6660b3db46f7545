# frozen_string_literal: true

require "tmpdir"
require_relative "../lib/kino_bench"

RSpec.describe KinoBench::ServerTable do
  subject(:table) { described_class.new(ruby: -> { "/ruby" }) }

  def command(name) = table.fetch(name).command(4321, "/nowhere")

  it "puts the port into any command, split as a shell would" do
    expect(command("mine=./server --bind '127.0.0.1:%{port}' a\\ b"))
      .to eq ["./server", "--bind", "127.0.0.1:4321", "a b"]
  end

  it "runs our gem and its peers with one app and two workers on one Ruby" do
    names = table.names.grep(/kino|puma/)
    expect(names.size).to eq 6
    names.each do |name|
      expect(command(name)).to include("/ruby").and end_with(KinoBench::RubyServer::APP)
      expect(command(name).each_cons(2)).to include(%w[-w 2])
      expect(command(name).join(" ")).to match(/\b4321\b/)
    end
  end

  it "runs the example with workers in each dispatch" do
    %w[queue lanes inline].each do |dispatch|
      expect(command("workers-#{dispatch}")).to end_with("4321", "1", dispatch)
    end
  end

  it "gives a Ruby server nothing of the caller's gems, and YJIT" do
    expect(table.fetch("puma").environment)
      .to include("RUBYOPT" => nil, "BUNDLE_GEMFILE" => nil, "RUBY_YJIT_ENABLE" => "1")
  end

  it "keeps a peer's gems apart, and says how to install it there" do
    puma = table.fetch("puma")
    home = puma.environment["GEM_PATH"]
    allow(File).to receive(:exist?).with("#{home}/bin/puma").and_return(false)
    expect(puma.environment["GEM_HOME"]).to eq home
    expect(puma.remedy).to include("/gem install", "--install-dir #{home} puma")
  end

  it "writes an nginx configuration that logs nothing and never closes a connection" do
    Dir.mktmpdir do |directory|
      configuration = table.fetch("nginx").command(4321, directory).last
      expect(File.read(configuration))
        .to include("listen 127.0.0.1:4321;", "access_log off;", "worker_processes 1;")
        .and match(/keepalive_requests \d{9,};/)
    end
  end

  it "has nginx serve a file as it does best, and nothing else" do
    Dir.mktmpdir do |directory|
      configuration = File.read(table.fetch("nginx-static").command(4321, directory).last)
      root = configuration[/root (.+);/, 1]
      expect(File.size(File.join(root, "64k.bin"))).to eq 65_536
      expect(Dir.children(root)).to eq ["64k.bin"]
      expect(configuration).to include("sendfile on;", "tcp_nopush on;", "open_file_cache max=100;",
                                       "open_file_cache_valid 60s;", "location = /64k.bin {")
        .and satisfy { !_1.include?("plaintext") }
    end
  end

  it "starts an nginx that may read the file" do
    nginx = table.fetch("nginx-static")
    skip "nginx is not installed" if nginx.remedy
    Dir.mktmpdir do |directory|
      running = KinoBench::RunningServer.new(nginx, directory)
      expect(running.await("/64k.bin"))
        .to have_attributes(status: 200, body: File.binread("#{directory}/files/64k.bin"))
      expect(running.get("/plaintext").status).to eq 404
    ensure
      running&.stop
    end
  end

  it "gives every server of files the same file, and a directory of its own" do
    files = %w[a b].map do |own|
      Dir.mktmpdir(own) do |directory|
        root = table.fetch("x=serve %{port} --root=%{directory}").command(4321, directory).last
        expect(root).to start_with("--root=#{directory}/")
        File.binread("#{root.delete_prefix('--root=')}/64k.bin")
      end
    end
    expect(files.uniq.size).to eq 1
    Dir.mktmpdir do |directory|
      table.fetch("x=serve %{port}").command(4321, directory)
      expect(Dir.children(directory)).to eq []
    end
  end

  it "lets nginx hold idle connections beside those in use" do
    table = described_class.new(ruby: -> {}, idle: 15_000)
    Dir.mktmpdir do |directory|
      configuration = table.fetch("nginx").command(4321, directory).last
      expect(File.read(configuration)).to include("worker_connections 19096;")
    end
  end

  it "names the known servers when a name is none of them" do
    expect { table.fetch("apache") }
      .to raise_error(KinoBench::Failure, /no server is called "apache"; known are hello,.*puma/)
  end

  it "refuses a command that takes no port, or is none" do
    expect { table.fetch("x=run me") }
      .to raise_error(KinoBench::Failure, /has no %\{port\}: run me/)
    expect { table.fetch("x=run 'me %{port}") }
      .to raise_error(KinoBench::Failure, /is no shell command/)
  end

  it "asks for a Ruby only when a Ruby server is used" do
    table = described_class.new(ruby: -> { raise "asked" })
    expect(table.fetch("x=serve %{port}").remedy).to be_nil
    expect { table.fetch("puma").command(1, "/") }.to raise_error("asked")
  end
end
