# frozen_string_literal: true

require "open3"
require "shellwords"

module KinoBench
  # How to start one server: here any command, below the kinds that kino-bench knows.
  class Server
    attr_reader :name

    # arguments: where one holds %{port}, the port takes its place.
    def initialize(name, arguments)
      @name = name
      @arguments = arguments
    end

    # directory: the server's own, for what must be written before it starts.
    def command(port, directory)
      [*program(port, directory), *@arguments.map { _1.gsub("%{port}", port.to_s) }]
    end

    def environment = {}

    # The shell command that installs what is missing; nil when the server can be started.
    def remedy = nil

    # Brings what was built up to date with its sources, so that old code is never measured. Once
    # for all servers of a kind.
    def refresh; end

    def ruby? = false

    private

    def program(_port, _directory) = []

    def run(*command, **options)
      output, status = Open3.capture2e(*command, **options)
      raise Failure, "#{command.join(' ')} failed:\n#{output}" unless status.success?
    rescue Errno::ENOENT => e
      raise Failure, "#{name} cannot be built: #{e.message}"
    end
  end

  # An example of libkino, built for release.
  class ExampleServer < Server
    BUILD = File.join(ROOT, "build/bench")

    def initialize(name, program, arguments)
      super(name, arguments)
      @program = program
    end

    def remedy
      return if executable

      "meson setup --buildtype=release -Dtests=disabled #{BUILD} #{ROOT} && " \
        "meson compile -C #{BUILD}"
    end

    def refresh = run("meson", "compile", "-C", BUILD)

    private

    def program(*) = [executable]

    def executable = Dir[File.join(BUILD, "**", @program)].find { File.file?(_1) }
  end

  # Debian's nginx with one worker, answering from its configuration.
  class NginxServer < Server
    def initialize(name)
      super(name, [])
    end

    def remedy
      "apt-get install nginx-light" unless executable
    end

    private

    # /usr/sbin is in nobody's PATH but root's.
    def executable
      ENV["PATH"].split(":").push("/usr/sbin").map { "#{_1}/nginx" }.find { File.executable?(_1) }
    end

    def program(port, directory)
      file = File.join(directory, "nginx.conf")
      File.write(file, configuration(port, directory))
      [executable, "-p", directory, "-c", file]
    end

    def configuration(port, directory)
      temporary = %w[client_body proxy fastcgi uwsgi scgi].map { "#{_1}_temp_path #{directory};" }
      <<~NGINX
        daemon off;
        worker_processes 1;
        pid #{directory}/nginx.pid;
        error_log stderr crit;
        events { worker_connections 4096; }
        http {
          access_log off;
          keepalive_requests 1000000000;
          default_type text/plain;
          #{temporary.join(' ')}
          server {
            listen 127.0.0.1:#{port};
            location = /plaintext { return 200 "Hello World"; }
            location / { return 404; }
          }
        }
      NGINX
    end
  end

  # A server that runs perf/apps/bench.ru; all of them on one Ruby, with YJIT, in production, and
  # with nothing of the caller's gems.
  class RubyServer < Server
    APP = File.join(ROOT, "perf/apps/bench.ru")
    CLEAN = %w[RUBYOPT RUBYLIB GEM_HOME GEM_PATH BUNDLE_GEMFILE BUNDLE_PATH].to_h { [_1, nil] }

    # ruby: called for the Ruby's path when it is needed.
    def initialize(name, arguments, ruby:)
      super(name, [*arguments, APP])
      @ruby = ruby
    end

    def environment = CLEAN.merge("RACK_ENV" => "production", "RUBY_YJIT_ENABLE" => "1")

    def ruby? = true
  end

  # This repository's gem, run from the checkout.
  class CheckoutServer < RubyServer
    GEM = File.join(ROOT, "bindings/ruby")
    TOOLS = File.join(ROOT, "tools")

    def refresh
      run("#{TOOLS}/gems", @ruby.call)
      run("#{TOOLS}/with-ruby", @ruby.call, "bundle", "exec", "rake", "compile", chdir: GEM)
    end

    private

    def program(*)
      ["#{TOOLS}/with-ruby", @ruby.call, "-rbundler/setup", "-I#{GEM}/lib", "#{GEM}/exe/kino"]
    end
  end

  # Another server's gem, in a GEM_HOME of its own: Kino's and ours both own lib/kino.rb.
  class PeerServer < RubyServer
    def initialize(name, arguments, gem:, version:, ruby:)
      super(name, arguments, ruby:)
      @gem = gem
      @version = version
      @home = ENV.fetch("#{gem.upcase}_GEM_HOME", File.join(ROOT, "perf/vendor", gem))
    end

    def environment = super.merge("GEM_HOME" => @home, "GEM_PATH" => @home)

    def remedy
      return if File.exist?(executable)

      [File.join(File.dirname(@ruby.call), "gem"), "install", "--no-document", "--install-dir",
       @home, @gem, "--version", @version].shelljoin
    end

    private

    def program(*) = [@ruby.call, executable]

    def executable = File.join(@home, "bin", @gem)
  end
end
