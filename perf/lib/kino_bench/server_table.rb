# frozen_string_literal: true

require "shellwords"

module KinoBench
  # The servers that are known by name. Ruby servers have two workers each; a Puma worker has five
  # threads.
  class ServerTable
    # ruby: called for the path of the Ruby, and only when a Ruby server is used. idle: connections
    # that a server must hold beside those in use, where it has to be told.
    def initialize(ruby:, idle: 0)
      @servers = [
        ExampleServer.new("hello", "hello", %w[%{port} 1]),
        ExampleServer.new("workers-inline", "workers", %w[%{port} 1 inline]),
        ExampleServer.new("workers-lanes", "workers", %w[%{port} 1 lanes]),
        ExampleServer.new("workers-queue", "workers", %w[%{port} 1 queue]),
        ExampleServer.new("static", "static", %w[%{port} %{directory}]),
        NginxServer.new("nginx", NginxServer::TEXT, idle:),
        NginxServer.new("nginx-static", NginxServer::FILE, idle:),
        checkout("kino-uring-inline", %w[-m ractor --dispatch inline], ruby),
        checkout("kino-uring-queue", %w[-m ractor --dispatch queue], ruby),
        checkout("kino-uring-threaded", %w[-m threaded], ruby),
        kino("kino", %w[-m ractor], ruby),
        kino("kino-threaded", %w[-m threaded], ruby),
        PeerServer.new("puma", %w[-C - -w 2 -t 5:5 -b tcp://127.0.0.1:%{port}],
                       gem: "puma", version: "~> 8.0", ruby:)
      ].to_h { [_1.name, _1] }
    end

    def names = @servers.keys

    # argument: a name from the table, or 'name=command with %{port}'.
    def fetch(argument)
      name, command = argument.split("=", 2)
      return custom(name, command) if command

      @servers.fetch(name) do
        raise Failure, "no server is called #{name.inspect}; known are #{names.join(', ')}, " \
                       "and any 'name=command with %{port}'"
      end
    end

    private

    def checkout(name, arguments, ruby)
      CheckoutServer.new(name, [*arguments, "-w", "2", "-p", "%{port}"], ruby:)
    end

    def kino(name, arguments, ruby)
      PeerServer.new(name, [*arguments, "-w", "2", "-p", "%{port}"],
                     gem: "kino", version: "~> 0.7", ruby:)
    end

    def custom(name, command)
      unless command.include?("%{port}")
        raise Failure, "the command of server #{name.inspect} has no %{port}: #{command}"
      end

      Server.new(name, Shellwords.split(command))
    rescue ArgumentError => e
      raise Failure, "the command of server #{name.inspect} is no shell command: #{e.message}"
    end
  end
end
